// Slices for 2D networks: zoom and rotation as SciPy's, the field's augmentation, batches, prediction slice
// by slice, and the counts of the real ACDC set.
#include "io/slice_augment.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <map>
#include <numeric>

#include "io/dataset.hpp"
#include "io/split.hpp"
#include "kernels/zoom.hpp"
#include "methods/slice_prediction.hpp"
#include "temporary_folder.hpp"

using namespace semivox;
using namespace semivox::io;

namespace {

/// FNV-1a over the values as 32-bit integers, as tests/goldens/make_slices.py has it.
uint64_t fnv(const std::vector<int32_t>& values, uint64_t state = 0xcbf29ce484222325u) {
  for (const int32_t value : values) {
    for (int byte = 0; byte < 4; ++byte) {
      state = (state ^ (static_cast<uint32_t>(value) >> (8 * byte) & 0xff)) * 0x100000001b3u;
    }
  }
  return state;
}

/// A stack of `slices` slices whose pixels are numbered from 1; its label is the number modulo 4.
CachedCase numbered(int64_t slices, int64_t height, int64_t width, int64_t channels = 1) {
  CachedCase cached;
  cached.shape = {slices, height, width};
  cached.image = Tensor::empty({1, channels, slices, height, width}, DType::f32, Device{});
  cached.label = Tensor::empty({1, 1, slices, height, width}, DType::u8, Device{});
  for (int64_t i = 0; i < cached.image.elements(); ++i)
    cached.image.data<float>()[i] = static_cast<float>(i + 1);
  for (int64_t i = 0; i < cached.label.elements(); ++i)
    cached.label.data<uint8_t>()[i] = static_cast<uint8_t>((i + 1) % 4);
  return cached;
}

/// Slice 0 of `cached` after a given augmentation, as a batch of one.
std::vector<int32_t> placed(const CachedCase& cached, const SliceAugmentation& augmentation, SliceFit fit,
                            int64_t height, int64_t width) {
  kernels::SliceSample sample;
  sample.image = cached.image.raw();
  sample.height = cached.shape[1];
  sample.width = cached.shape[2];
  std::vector<int32_t> tables;
  place_slice(augmentation, fit, AugmentMode::none, height, width, {}, sample, tables);
  const Tensor image = Tensor::empty({1, 1, 1, height, width}, DType::f32, Device{});
  kernels::gather_slices({sample}, tables, image, Tensor());
  std::vector<int32_t> pixels;
  for (const double value : image.to_doubles()) pixels.push_back(static_cast<int32_t>(value));
  return pixels;
}

std::vector<int32_t> from_one(std::vector<int32_t> table) {
  for (int32_t& value : table) ++value;
  return table;
}

}  // namespace

TEST_CASE("slices: zoom tables are SciPy's") {
  uint64_t state = fnv({});
  std::vector<int> outside;
  for (int n = 16; n <= 400; ++n) {
    const std::vector<int32_t> there = kernels::zoom_table(n, 256), back = kernels::zoom_table(256, n);
    CHECK(std::count(there.begin(), there.end(), -1) == 0);
    if (back.back() == -1) outside.push_back(n);
    state = fnv(from_one(back), fnv(from_one(there), state));
  }
  CHECK(state == 0xf29bb6c8976af6ceu);
  // Where rounding takes the last pixel beyond the slice.
  CHECK(outside == std::vector<int>{23,  27,  32,  45,  53,  56,  62,  63,  82,  89,  105, 108,
                                    111, 114, 123, 125, 156, 163, 174, 177, 190, 200, 202, 209,
                                    215, 216, 221, 227, 228, 245, 248, 249, 250, 270, 311, 325,
                                    347, 353, 356, 360, 368, 376, 379, 380, 390, 399});
  CHECK(kernels::zoom_table(5, 1) == std::vector<int32_t>{0});
  CHECK(kernels::zoom_table(1, 3) == std::vector<int32_t>{0, 0, 0});
}

TEST_CASE("slices: rotations are SciPy's") {
  struct Golden {
    int64_t height, width;
    int degrees;
    uint64_t hash;
  };
  for (const Golden& golden :
       {Golden{20, 33, 7, 0x19fa596f8667dee0u}, Golden{31, 24, -20, 0x7fb6fd0e7d55bfa7u},
        Golden{64, 64, 19, 0xcc87e200169cffe8u}, Golden{50, 41, -1, 0xd467086311ce99b1u},
        Golden{216, 256, 13, 0x9e6580855d46eee4u}, Golden{37, 37, -9, 0x8d27f6c03d6bb23au}}) {
    INFO(golden.degrees, " degrees");
    // A zoom to the slice's own size changes nothing.
    const auto pixels = placed(numbered(1, golden.height, golden.width), {0, -1, golden.degrees},
                               SliceFit::zoom, golden.height, golden.width);
    CHECK(fnv(pixels) == golden.hash);
  }
  const CachedCase cached = numbered(1, 45, 52);
  CHECK(fnv(placed(cached, {0, -1, 11}, SliceFit::zoom, 64, 80)) == 0x76fea57a821f294fu);
  CHECK(fnv(placed(cached, {1, 1, 0}, SliceFit::zoom, 64, 80)) == 0xe851b2de218c0605u);
}

TEST_CASE("slices: turns and flips are four reflections") {
  const int64_t h = 5, w = 7;
  const CachedCase cached = numbered(1, h, w);
  const auto pixel = [&](int64_t i, int64_t j) { return static_cast<int32_t>(i * w + j + 1); };
  std::map<std::vector<int32_t>, int> seen;
  for (int turns = 0; turns < 4; ++turns) {
    for (int axis = 0; axis < 2; ++axis) {
      const bool odd = turns % 2 == 1;
      const int64_t rows = odd ? w : h, columns = odd ? h : w;
      ++seen[placed(cached, {turns, axis, 0}, SliceFit::zoom, rows, columns)];
    }
  }
  std::vector<int32_t> rows, columns, transpose, anti;
  for (int64_t i = 0; i < h; ++i) {
    for (int64_t j = 0; j < w; ++j) {
      rows.push_back(pixel(h - 1 - i, j));
      columns.push_back(pixel(i, w - 1 - j));
    }
  }
  for (int64_t i = 0; i < w; ++i) {
    for (int64_t j = 0; j < h; ++j) {
      transpose.push_back(pixel(j, i));
      anti.push_back(pixel(h - 1 - j, w - 1 - i));
    }
  }
  CHECK(seen == std::map<std::vector<int32_t>, int>{{rows, 2}, {columns, 2}, {transpose, 2}, {anti, 2}});
}

TEST_CASE("slices: how often what is drawn") {
  constexpr int kDraws = 4000;
  int turned = 0, rotated = 0, nothing = 0, least = 99, most = -99;
  for (uint64_t i = 0; i < kDraws; ++i) {
    const SliceAugmentation drawn = draw_slice_augmentation(AugmentMode::rotflip_rotate, {5, i, 9});
    if (drawn.flip_axis >= 0) {
      ++turned;
      CHECK(drawn.degrees == 0);
    } else if (drawn.degrees != 0) {
      ++rotated;
      CHECK(drawn.quarter_turns == 0);
    } else {
      ++nothing;
    }
    const int degrees = draw_slice_augmentation(AugmentMode::rotate, {6, i, 9}).degrees;
    least = std::min(least, degrees);
    most = std::max(most, degrees);
    CHECK(draw_slice_augmentation(AugmentMode::rotflip, {6, i, 9}).flip_axis >= 0);
  }
  // 4.4 standard deviations; an angle of 0 counts as nothing, one in 40.
  CHECK(std::abs(turned - kDraws / 2) < 140);
  CHECK(std::abs(rotated - kDraws / 4 * 39 / 40) < 120);
  CHECK(std::abs(nothing - kDraws / 4 * 41 / 40) < 120);
  CHECK(least == -20);
  CHECK(most == 19);
  CHECK(draw_slice_augmentation(AugmentMode::none, {6, 0, 9}).flip_axis == -1);
}

TEST_CASE("slices: batches") {
  CachedCase labeled = numbered(3, 20, 26, 3), hidden = numbered(2, 31, 18, 3);
  hidden.label = Tensor();
  hidden.slope = 2;
  hidden.intercept = 1;
  const Batch batch =
      make_slice_batch({{&labeled, 2}, {&hidden, 1}}, 16, 32, SliceFit::zoom, AugmentMode::none, 1, 0);
  CHECK(batch.image.shape() == Shape{2, 3, 1, 16, 32});
  CHECK(batch.label.shape() == Shape{2, 1, 1, 16, 32});
  const auto rows = kernels::zoom_table(20, 16), columns = kernels::zoom_table(26, 32);
  const auto hidden_rows = kernels::zoom_table(31, 16), hidden_columns = kernels::zoom_table(18, 32);
  for (int64_t i = 0; i < 16; ++i) {
    for (int64_t j = 0; j < 32; ++j) {
      const int64_t pixel = (2 * 20 + rows[i]) * 26 + columns[j];
      const int64_t other = (31 + hidden_rows[i]) * 18 + hidden_columns[j];
      for (int64_t c = 0; c < 3; ++c) {
        CHECK(batch.image.data<float>()[(i * 32 + j) * 3 + c] == static_cast<float>(pixel * 3 + c + 1));
        CHECK(batch.image.data<float>()[((16 + i) * 32 + j) * 3 + c] ==
              static_cast<float>(2 * (other * 3 + c + 1) + 1));
      }
      CHECK(batch.label.data<uint8_t>()[i * 32 + j] == (pixel + 1) % 4);
      CHECK(batch.label.data<uint8_t>()[(16 + i) * 32 + j] == 0);
    }
  }
  // The same (seed, iteration) gives the same batch, another iteration another one.
  const auto drawn = [&](uint64_t iteration) {
    return make_slice_batch({{&labeled, 0}, {&labeled, 0}}, 16, 16, SliceFit::crop,
                            AugmentMode::rotflip_rotate, 7, iteration)
        .image.to_doubles();
  };
  CHECK(drawn(3) == drawn(3));
  CHECK(drawn(3) != drawn(4));
}

TEST_CASE("slices: crops") {
  // Centre: (20 - 15) / 2 = 2.5 rounds to 2, (26 - 15) / 2 = 5.5 to 6.
  const CachedCase cached = numbered(1, 20, 26);
  const auto pixels = placed(cached, {}, SliceFit::crop, 15, 15);
  CHECK(pixels.front() == 2 * 26 + 6 + 1);
  CHECK(pixels.back() == 16 * 26 + 20 + 1);
  // One axis not longer than the patch pads both: (32 - 20) / 2 + 3 = 9 pixels, (24 - 26) / 2 + 3 = 2.
  const auto padded = placed(cached, {}, SliceFit::crop, 32, 24);
  CHECK(padded[0] == 0);
  CHECK(std::count(padded.begin(), padded.end(), 0) == 12 * 24);
  CHECK(parse_slice_fit("zoom") == SliceFit::zoom);
  CHECK_THROWS_AS(parse_slice_fit("scale"), UsageError);
}

TEST_CASE("slices: CUDA equals CPU") {
  if (cuda_device_count() == 0) {
    MESSAGE("skipped: ", cuda_unavailable_reason());
    return;
  }
  const Device cuda{DeviceKind::cuda, 0};
  const CachedCase host = numbered(4, 57, 43, 2);
  CachedCase device = host;
  device.image = host.image.to(cuda);
  device.label = host.label.to(cuda);
  for (uint64_t iteration = 0; iteration < 16; ++iteration) {
    const auto make = [&](const CachedCase& cached) {
      return make_slice_batch({{&cached, 0}, {&cached, 3}}, 64, 48, SliceFit::zoom,
                              AugmentMode::rotflip_rotate, 1, iteration);
    };
    CHECK(make(host).image.to_doubles() == make(device).image.to_doubles());
    CHECK(make(host).label.to_doubles() == make(device).label.to_doubles());
  }
}

TEST_CASE("slices: axis first and back") {
  const Extent3 shape{3, 4, 5};
  std::vector<float> voxels(60);
  std::iota(voxels.begin(), voxels.end(), 0.0f);
  for (int axis = -1; axis < 3; ++axis) {
    const Extent3 moved = slices_first(shape, axis);
    const std::vector<std::byte> bytes = slices_first(voxels.data(), shape, axis, 4);
    const auto* first = reinterpret_cast<const float*>(bytes.data());
    for (int64_t i = 0; i < 3; ++i) {
      for (int64_t j = 0; j < 4; ++j) {
        for (int64_t k = 0; k < 5; ++k) {
          const Extent3 at = axis == 2 ? Extent3{k, i, j} : axis == 1 ? Extent3{j, i, k} : Extent3{i, j, k};
          CHECK(first[(at[0] * moved[1] + at[1]) * moved[2] + at[2]] == voxels[(i * 4 + j) * 5 + k]);
        }
      }
    }
    const std::vector<std::byte> back = array_order(bytes.data(), shape, axis, 4);
    CHECK(std::equal(back.begin(), back.end(), reinterpret_cast<const std::byte*>(voxels.data())));
  }
  CHECK(slice_axis_of(SliceAxis::automatic, "a.nii.gz", shape) == 2);
  CHECK(slice_axis_of(SliceAxis::automatic, "a.h5", shape) == 0);
  CHECK(slice_axis_of(SliceAxis::third, "a.nii.gz", {1, 4, 5}) == 0);
  CHECK(slice_axis_of(SliceAxis::none, "a.nii.gz", shape) == -1);
  for (const char* word : {"auto", "0", "1", "2"}) CHECK(name_of(parse_slice_axis(word)) == word);
  CHECK_THROWS_AS(parse_slice_axis("3"), UsageError);
}

namespace {

/// Logits of two classes: minus and plus the first channel.
class Sign : public Network {
 public:
  Sign() : Network(NetworkOptions{.in_channels = 2, .classes = 2}) { allocate(DType::f32, Device{}, false); }
  std::array<int64_t, 3> divisor() const override { return {1, 16, 16}; }

 protected:
  Variable run(const Variable& x, const Pass&) override {
    const Shape s = x.shape();
    CHECK(s.d == 1);
    const Tensor logits = Tensor::empty(s.with_channels(2), DType::f32, Device{});
    for (int64_t i = 0; i < s.rows(); ++i) {
      const float value = x.value().data<float>()[i * s.c];
      logits.data<float>()[2 * i] = -value;
      logits.data<float>()[2 * i + 1] = value;
    }
    return Variable(logits);
  }
};

}  // namespace

TEST_CASE("slices: prediction zooms there and back") {
  // 216 rows: the last one lies outside on the way back and is background.
  const Shape shape{1, 2, 3, 216, 20};
  const Tensor image = Tensor::empty(shape, DType::f32, Device{});
  for (int64_t i = 0; i < image.elements(); ++i)
    image.data<float>()[i] = static_cast<float>(std::sin(0.37 * static_cast<double>(i)));
  Sign network;
  WindowOptions options{.patch = {1, 256, 32}, .batch = 2, .zoom_slices = true};
  const Tensor probabilities = predict_probabilities(network, image, options);
  CHECK(probabilities.shape() == shape.with_channels(2));
  CHECK(window_count(network, {3, 216, 20}, options) == 3);
  const auto rows = kernels::zoom_table(216, 256), columns = kernels::zoom_table(20, 32);
  const auto back_rows = kernels::zoom_table(256, 216), back_columns = kernels::zoom_table(32, 20);
  CHECK(back_rows[215] == -1);
  for (int64_t s = 0; s < 3; ++s) {
    for (int64_t i = 0; i < 216; ++i) {
      for (int64_t j = 0; j < 20; ++j) {
        const float* p = probabilities.data<float>() + ((s * 216 + i) * 20 + j) * 2;
        double expected = 0;
        if (back_rows[i] >= 0 && back_columns[j] >= 0) {
          const int64_t from = (s * 216 + rows[back_rows[i]]) * 20 + columns[back_columns[j]];
          expected = 1 / (1 + std::exp(-2.0 * image.data<float>()[2 * from]));
        }
        CHECK(std::abs(p[1] - expected) < 1e-6);
        CHECK(std::abs(p[0] + p[1] - 1) < 1e-6);
      }
    }
  }
  options.patch = {1, 250, 32};
  CHECK_THROWS_AS(predict_probabilities(network, image, options), UsageError);
  options = {.patch = {1, 256, 32}, .mirror = true, .zoom_slices = true};
  CHECK_THROWS_AS(predict_probabilities(network, image, options), UsageError);
}

TEST_CASE("slices: counts of the real ACDC set") {
  const char* path = std::getenv("SEMIVOX_ACDC");
  if (path == nullptr) {
    MESSAGE("skipped: SEMIVOX_ACDC names no folder");
    return;
  }
  const DatasetFolder folder = open_dataset(path);
  CHECK(folder.classes() == 4);
  CHECK(folder.training.size() == 140);
  CHECK(folder.validation.size() == 20);
  CaseCounts slices{CountUnit::slices, count_slices(folder, folder.training, SliceAxis::automatic)};
  CHECK(std::accumulate(slices.slices.begin(), slices.slices.end(), int64_t{0}) == 1312);
  const std::pair<int64_t, int64_t> counts[] = {{1, 32},   {3, 68},   {7, 136},  {14, 256},
                                                {21, 396}, {28, 512}, {35, 664}, {70, 1312}};
  for (const auto& [patients, expected] : counts) {
    const Split split = make_split(folder, patients, kAllCases, {CountUnit::patients, {}});
    CHECK(split.labeled.size() == static_cast<size_t>(2 * patients));
    int64_t total = 0;
    for (const int64_t index : split.labeled) total += slices.slices[index];
    CHECK(total == expected);
    CHECK(make_split(folder, expected, kAllCases, slices).labeled == split.labeled);
  }
  CHECK_THROWS_AS(make_split(folder, 137, kAllCases, slices), UsageError);
  const auto cases =
      load_cases(folder, {folder.training[0]}, Labels::read, {{}, {0, 0, 0}, SliceAxis::automatic}, Device{});
  CHECK(cases[0].shape[0] == 16);
  CHECK(cases[0].input_shape[2] == 16);
}
