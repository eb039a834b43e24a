#include "io/overlay.hpp"

#include <algorithm>

#include "io/bitmap_font.hpp"
#include "io/png.hpp"
#include "tests/temporary_folder.hpp"

using namespace semivox;
using namespace semivox::io;

namespace {

Colour pixel(const Picture& picture, int64_t x, int64_t y) {
  REQUIRE(x < picture.width);
  REQUIRE(y < picture.height);
  const auto* p = picture.pixels.data() + (y * picture.width + x) * 3;
  return {p[0], p[1], p[2]};
}

int64_t count(const Picture& picture, const Colour& colour) {
  int64_t found = 0;
  for (size_t n = 0; n < picture.pixels.size(); n += 3) {
    found += std::equal(colour.begin(), colour.end(), picture.pixels.begin() + static_cast<int64_t>(n));
  }
  return found;
}

constexpr Colour kFill1{213, 94, 0}, kLine1{0, 255, 255};
constexpr int64_t kLeft = 10, kTop = 32;  // of the first panel

}  // namespace

TEST_CASE("overlay: gray scan, filled prediction, outlined reference, on the fullest slice") {
  const TemporaryFolder folder;
  // 8 x 6 x 4, dark for j < 3 and bright from j = 3 on; axis 0 has the longest extent: 320 / 8 = 40 pixels
  // per voxel.
  Image image{{8, 6, 4}, std::vector<float>(192), {}};
  LabelMap prediction{image.shape, std::vector<uint8_t>(192), {}};
  LabelMap reference = prediction;
  const auto at = [](int64_t i, int64_t j, int64_t k) { return static_cast<size_t>((i * 6 + j) * 4 + k); };
  for (size_t n = 0; n < 192; ++n) image.voxels[n] = n / 4 % 6 < 3 ? -7.0f : 5.0f;
  reference.voxels[at(5, 1, 1)] = 1;
  reference.voxels[at(5, 1, 2)] = 1;
  prediction.voxels[at(5, 4, 3)] = 1;
  prediction.voxels[at(2, 0, 0)] = 1;
  write_overlay(folder / "a.png", image, prediction, &reference, "case 1");
  CHECK(folder.entries() == 1);
  const Picture picture = read_png(folder / "a.png");
  // Panel across axis 0 at i = 5: rows j, columns k.
  const auto centre = [&](int64_t row, int64_t column) {
    return pixel(picture, kLeft + column * 40 + 20, kTop + row * 40 + 20);
  };
  CHECK(centre(0, 0) == Colour{0, 0, 0});
  CHECK(centre(3, 0) == Colour{255, 255, 255});
  CHECK(centre(1, 1) == Colour{0, 0, 0});                                    // inside an outline
  CHECK(centre(4, 3) == Colour{236, 183, 140});                              // 0.55 white + 0.45 fill
  CHECK(pixel(picture, kLeft + 1 * 40, kTop + 40 + 20) == kLine1);           // left edge of the reference
  CHECK(pixel(picture, kLeft + 3 * 40 - 1, kTop + 40 + 20) == kLine1);       // right edge
  CHECK(pixel(picture, kLeft + 2 * 40, kTop + 40 + 20) == Colour{0, 0, 0});  // no line between its two voxels

  write_overlay(folder / "b.png", image, prediction, nullptr, "case 1");
  CHECK(count(read_png(folder / "b.png"), kLine1) == 0);
  CHECK(count(read_png(folder / "b.png"), kFill1) == 14 * 14);  // the legend
}

TEST_CASE("overlay: 2D scans, thick slices, constant scans and empty maps") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.png";
  const LabelMap flat{{1, 20, 30}, std::vector<uint8_t>(600), {}};
  write_overlay(path, {flat.shape, std::vector<float>(600, 2.5f), {}}, flat, &flat, "");
  Picture picture = read_png(path);
  CHECK(picture.width == kLeft + 30 * 11 + 20);  // one panel; 320 / 30, rounded up, is 11
  CHECK(count(picture, kFill1) == 0);

  const LabelMap thick{{400, 2, 3}, std::vector<uint8_t>(2400), {}};
  const Image image{thick.shape, std::vector<float>(2400), {{1.5, 8, 1.5}, true, nullptr}};
  write_overlay(path, image, thick, nullptr, std::string(100, 'W'));
  picture = read_png(path);
  CHECK(picture.height > 400);
  CHECK(picture.width >= 100 * kGlyphWidth * 2);  // the whole caption
}

TEST_CASE("bitmap font: every character has its own picture, and edges cut off") {
  const std::string characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.%-_: ?";
  std::vector<std::vector<uint8_t>> pictures;
  for (const char character : characters) {
    Picture picture{kGlyphHeight, kGlyphWidth, 3, std::vector<uint8_t>(kGlyphHeight * kGlyphWidth * 3)};
    draw_text(picture, 0, 0, 1, std::string(1, character), {255, 255, 255});
    CHECK(std::find(pictures.begin(), pictures.end(), picture.pixels) == pictures.end());
    pictures.push_back(picture.pixels);
  }
  Picture small{3, 3, 3, std::vector<uint8_t>(27)};
  draw_text(small, -2, -1, 2, "AB", {9, 9, 9});
  CHECK(std::count(small.pixels.begin(), small.pixels.end(), 9) > 0);
}
