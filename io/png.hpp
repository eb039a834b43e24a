// PNG pictures of 8 bits per channel, gray or RGB.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace semivox::io {

/// A picture; `pixels[(y * width + x) * channels + c]`.
struct Picture {
  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 3;  ///< 1 gray, 3 red, green, blue
  std::vector<uint8_t> pixels;
};

/// Reads a picture with its stored values (no colour management). Palettes become RGB, 1 to 4 bits are
/// stretched to 8, and an alpha channel is dropped. Throws DataError for files that are missing, damaged, no
/// PNG, or have 16 bits per channel.
Picture read_png(const std::string& path);

/// Writes a picture, atomically.
void write_png(const std::string& path, const Picture& picture);

}  // namespace semivox::io
