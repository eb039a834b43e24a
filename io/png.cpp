#include "io/png.hpp"

#include <png.h>

#include <cerrno>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <memory>
#include <span>

#include "engine/atomic_file.hpp"
#include "engine/error.hpp"

namespace semivox::io {
namespace {

constexpr int64_t kMaxPixels = int64_t{1} << 28;

/// libpng leaves its functions by longjmp on errors, past all destructors. So whatever owns memory lives in a
/// Reader, and each function that calls setjmp has only plain variables.
struct Reader {
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::string problem;
  std::vector<png_bytep> rows;
  ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }
};

void on_error(png_structp png, png_const_charp message) {
  static_cast<Reader*>(png_get_error_ptr(png))->problem = message;
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}  // about parts that do not touch the pixels

/// Reads the header and asks for 8 bits, gray or RGB, no alpha; false on errors.
bool read_header(Reader& reader, FILE* file) {
  if (setjmp(png_jmpbuf(reader.png))) return false;
  png_init_io(reader.png, file);
  png_read_info(reader.png, reader.info);
  png_set_palette_to_rgb(reader.png);
  png_set_expand_gray_1_2_4_to_8(reader.png);
  png_set_strip_alpha(reader.png);
  png_set_interlace_handling(reader.png);
  png_read_update_info(reader.png, reader.info);
  return true;
}

/// Reads the pixels into `reader.rows`; false on errors.
bool read_pixels(Reader& reader) {
  if (setjmp(png_jmpbuf(reader.png))) return false;
  png_read_image(reader.png, reader.rows.data());
  png_read_end(reader.png, nullptr);
  return true;
}

}  // namespace

Picture read_png(const std::string& path) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "rbe"), std::fclose);
  if (file == nullptr) throw DataError(text(path, ": cannot open the file: ", std::strerror(errno)));
  Reader reader;
  reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, on_error, on_warning);
  if (reader.png != nullptr) reader.info = png_create_info_struct(reader.png);
  SEMIVOX_CHECK(reader.info != nullptr, "libpng cannot start");
  if (!read_header(reader, file.get()))
    throw DataError(text(path, ": cannot read the PNG file: ", reader.problem));
  const int bits = png_get_bit_depth(reader.png, reader.info);
  if (bits != 8) throw DataError(text(path, ": ", bits, " bits per channel, expected at most 8"));
  Picture picture;
  picture.height = png_get_image_height(reader.png, reader.info);
  picture.width = png_get_image_width(reader.png, reader.info);
  picture.channels = png_get_channels(reader.png, reader.info);
  if (picture.height * picture.width > kMaxPixels) {
    throw DataError(
        text(path, ": ", picture.height, " x ", picture.width, " pixels, expected at most ", kMaxPixels));
  }
  const int64_t row_bytes = picture.width * picture.channels;
  picture.pixels.resize(static_cast<size_t>(picture.height * row_bytes));
  for (int64_t y = 0; y < picture.height; ++y) reader.rows.push_back(picture.pixels.data() + y * row_bytes);
  if (!read_pixels(reader)) throw DataError(text(path, ": cannot read the PNG file: ", reader.problem));
  return picture;
}

void write_png(const std::string& path, const Picture& picture) {
  SEMIVOX_CHECK(picture.channels == 1 || picture.channels == 3, path, ": ", picture.channels, " channels");
  const int64_t bytes = picture.height * picture.width * picture.channels;
  SEMIVOX_CHECK(bytes > 0 && static_cast<int64_t>(picture.pixels.size()) == bytes, path, ": ", bytes,
                " bytes");
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.height = static_cast<png_uint_32>(picture.height);
  image.width = static_cast<png_uint_32>(picture.width);
  image.format = picture.channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
  std::vector<std::byte> file(size);
  if (png_image_write_to_memory(&image, file.data(), &size, 0, picture.pixels.data(), 0, nullptr) == 0) {
    throw DataError(text(path, ": cannot make the PNG file: ", image.message));
  }
  write_file(path, std::span(file).first(size));
}

}  // namespace semivox::io
