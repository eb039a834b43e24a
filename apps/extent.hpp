// Sizes and spacings on the command line and in metadata: "64x64x32", "1.25", "1x1x2.5".
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace semivox {

/// Three positive integers with an x between them, or two, HxW, which stand for 1xHxW; nothing for any other
/// word.
std::optional<std::array<int64_t, 3>> parse_extent(const std::string& word);

/// One number for all axes or three with an x between them, in mm: all positive, or all zero, which means the
/// file's own spacing. Nothing for any other word.
std::optional<std::array<double, 3>> parse_spacing(const std::string& word);

/// "64x64x32".
std::string extent_text(const std::array<int64_t, 3>& extent);

}  // namespace semivox
