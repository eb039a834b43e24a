#include "io/png.hpp"

#include <png.h>

#include "tests/temporary_folder.hpp"

using namespace semivox;
using namespace semivox::io;

namespace {

Picture pattern(int64_t height, int64_t width, int64_t channels) {
  Picture picture{height, width, channels,
                  std::vector<uint8_t>(static_cast<size_t>(height * width * channels))};
  for (size_t n = 0; n < picture.pixels.size(); ++n) picture.pixels[n] = static_cast<uint8_t>(n * 37 + n / 7);
  return picture;
}

/// Writes a PNG of any kind with libpng's low-level calls; `rows` in the file's own layout.
void write_raw(const std::string& path, int width, int height, int bits, int colour_type, int interlace,
               std::vector<std::vector<uint8_t>> rows) {
  FILE* file = std::fopen(path.c_str(), "wb");
  REQUIRE(file != nullptr);
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_init_io(png, file);
  png_set_IHDR(png, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(height), bits,
               colour_type, interlace, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_set_gAMA(png, info, 1.0);  // must not change the values read
  const png_color palette[2] = {{10, 20, 30}, {200, 150, 100}};
  if (colour_type == PNG_COLOR_TYPE_PALETTE) png_set_PLTE(png, info, palette, 2);
  png_write_info(png, info);
  std::vector<png_bytep> pointers;
  for (auto& row : rows) pointers.push_back(row.data());
  png_write_image(png, pointers.data());
  png_write_end(png, nullptr);
  png_destroy_write_struct(&png, &info);
  std::fclose(file);
}

}  // namespace

TEST_CASE("PNG: round trip of gray and RGB, odd sizes") {
  const TemporaryFolder folder;
  for (const int64_t channels : {1, 3}) {
    for (const auto& [height, width] : {std::pair<int64_t, int64_t>{1, 1}, {7, 13}, {300, 2}}) {
      const Picture picture = pattern(height, width, channels);
      write_png(folder / "a.png", picture);
      const Picture back = read_png(folder / "a.png");
      CHECK(back.height == height);
      CHECK(back.width == width);
      CHECK(back.channels == channels);
      CHECK(back.pixels == picture.pixels);
    }
  }
  CHECK(folder.entries() == 1);
}

TEST_CASE("PNG: palettes, few bits, alpha and interlacing are resolved; values stay as stored") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.png";
  using Pixels = std::vector<uint8_t>;
  write_raw(path, 2, 1, 8, PNG_COLOR_TYPE_RGB_ALPHA, PNG_INTERLACE_NONE, {{1, 2, 3, 0, 90, 80, 70, 128}});
  CHECK(read_png(path).pixels == Pixels{1, 2, 3, 90, 80, 70});
  write_raw(path, 2, 2, 8, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_INTERLACE_ADAM7, {{1, 0, 2, 9}, {3, 255, 4, 7}});
  CHECK(read_png(path).pixels == Pixels{1, 2, 3, 4});
  CHECK(read_png(path).channels == 1);
  write_raw(path, 3, 1, 2, PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE, {{0b00011100}});
  CHECK(read_png(path).pixels == Pixels{0, 85, 255});
  write_raw(path, 2, 1, 1, PNG_COLOR_TYPE_PALETTE, PNG_INTERLACE_NONE, {{0b01000000}});
  CHECK(read_png(path).pixels == Pixels{10, 20, 30, 200, 150, 100});
}

TEST_CASE("PNG: broken and foreign files are refused by name") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.png";
  const auto message = [&] { return data_error([&] { read_png(path); }); };
  CHECK(mentions(message(), path, "No such file"));
  write_bytes(path, "GIF89a, not this one");
  CHECK(mentions(message(), path, "Not a PNG file"));
  write_png(path, pattern(40, 30, 3));
  const std::string whole = read_bytes(path);
  write_bytes(path, whole.substr(0, whole.size() / 2));
  CHECK(mentions(message(), path, "cannot read the PNG file"));
  std::string damaged = whole;
  damaged[whole.size() / 2] = static_cast<char>(damaged[whole.size() / 2] ^ 1);
  write_bytes(path, damaged);
  CHECK(mentions(message(), path, "cannot read the PNG file"));
  write_raw(path, 1, 1, 16, PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE, {{1, 2}});
  CHECK(mentions(message(), path, "16 bits", "at most 8"));
  CHECK(mentions(data_error([&] { write_png(folder / "no/a.png", pattern(2, 2, 1)); }), "no/a.png",
                 "No such file"));
}
