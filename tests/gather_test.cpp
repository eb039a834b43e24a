// Augmentation and the gather kernel, held against rotating, flipping, padding and cropping one after the
// other.
#include "kernels/gather.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "io/augment.hpp"
#include "io/batch.hpp"

using namespace semivox;
using namespace semivox::io;

namespace {

/// A scan as plain values, for the slow way.
struct Plain {
  Extent3 shape;
  std::vector<double> voxels;
  double& at(int64_t i, int64_t j, int64_t k) { return voxels[(i * shape[1] + j) * shape[2] + k]; }
};

/// The scan of `shape` whose voxel (i, j, k) is f(i, j, k).
template <class F>
Plain filled(const Extent3& shape, const F& f) {
  Plain plain{shape, std::vector<double>(voxel_count(shape))};
  for (int64_t i = 0; i < shape[0]; ++i) {
    for (int64_t j = 0; j < shape[1]; ++j) {
      for (int64_t k = 0; k < shape[2]; ++k) plain.at(i, j, k) = f(i, j, k);
    }
  }
  return plain;
}

Plain quarter_turn(Plain in) {
  return filled({in.shape[1], in.shape[0], in.shape[2]},
                [&](int64_t i, int64_t j, int64_t k) { return in.at(j, in.shape[1] - 1 - i, k); });
}

Plain flipped(Plain in, int axis) {
  return filled(in.shape, [&](int64_t i, int64_t j, int64_t k) {
    return axis == 0 ? in.at(in.shape[0] - 1 - i, j, k) : in.at(i, in.shape[1] - 1 - j, k);
  });
}

Plain padded(Plain in, const Extent3& by) {
  return filled({in.shape[0] + 2 * by[0], in.shape[1] + 2 * by[1], in.shape[2] + 2 * by[2]},
                [&](int64_t i, int64_t j, int64_t k) {
                  i -= by[0], j -= by[1], k -= by[2];
                  const bool inside =
                      i >= 0 && j >= 0 && k >= 0 && i < in.shape[0] && j < in.shape[1] && k < in.shape[2];
                  return inside ? in.at(i, j, k) : 0.0;
                });
}

Plain cropped(Plain in, const Extent3& start, const Extent3& patch) {
  for (int a = 0; a < 3; ++a) {
    REQUIRE(start[a] >= 0);
    REQUIRE(start[a] + patch[a] <= in.shape[a]);
  }
  return filled(patch, [&](int64_t i, int64_t j, int64_t k) {
    return in.at(i + start[0], j + start[1], k + start[2]);
  });
}

Plain slowly(Plain in, const Augmentation& augmentation, const Extent3& patch) {
  for (int turn = 0; turn < augmentation.quarter_turns; ++turn) in = quarter_turn(in);
  if (augmentation.flip_axis >= 0) in = flipped(in, augmentation.flip_axis);
  return cropped(padded(in, augmentation.padding), augmentation.start, patch);
}

/// A cached case with noise in `dtype` and labels 0...3, and the same as plain values.
struct Scan {
  CachedCase cached;
  Plain image, label;

  Scan(const Extent3& shape, DType dtype, uint64_t seed) {
    const RandomStream random{seed, 0, 0};
    cached.shape = shape;
    const Shape tensor_shape{1, 1, shape[0], shape[1], shape[2]};
    cached.image = Tensor::empty(tensor_shape, dtype, Device{});
    cached.label = Tensor::empty(tensor_shape, DType::u8, Device{});
    if (dtype != DType::f32) cached.slope = 0.037f, cached.intercept = -0.77f;
    image = label = Plain{shape, std::vector<double>(voxel_count(shape))};
    for (int64_t i = 0; i < voxel_count(shape); ++i) {
      const int64_t stored = random.integer(i, 255) - (dtype == DType::u8 ? 0 : 100);
      if (dtype == DType::u8) cached.image.data<uint8_t>()[i] = static_cast<uint8_t>(stored);
      if (dtype == DType::i16) cached.image.data<int16_t>()[i] = static_cast<int16_t>(stored);
      if (dtype == DType::f32) cached.image.data<float>()[i] = static_cast<float>(stored);
      image.voxels[i] = static_cast<double>(cached.slope) * static_cast<double>(stored) + cached.intercept;
      cached.label.data<uint8_t>()[i] = static_cast<uint8_t>(stored & 3);
      label.voxels[i] = static_cast<double>(stored & 3);
    }
  }
};

/// Largest difference between sample `n` of a batch tensor and plain values.
double difference(const Tensor& batch, int64_t n, const Plain& expected) {
  const std::vector<double> values = batch.samples(n, 1).to_doubles();
  REQUIRE(values.size() == expected.voxels.size());
  double worst = 0;
  for (size_t i = 0; i < values.size(); ++i)
    worst = std::max(worst, std::abs(values[i] - expected.voxels[i]));
  return worst;
}

}  // namespace

TEST_CASE("gather: batches equal turning, flipping, padding and cropping in sequence") {
  const Extent3 shapes[] = {{9, 7, 5}, {6, 11, 8}, {4, 5, 3}, {1, 1, 1}, {13, 6, 4}, {10, 5, 4}};
  const Extent3 patches[] = {{6, 5, 4}, {4, 7, 3}, {1, 1, 1}, {12, 3, 5}};
  const DType dtypes[] = {DType::u8, DType::i16, DType::f32};
  std::vector<Scan> scans;
  for (const Extent3& shape : shapes) {
    for (const DType dtype : dtypes) scans.emplace_back(shape, dtype, scans.size());
  }
  std::vector<const CachedCase*> cases;
  for (const Scan& scan : scans) cases.push_back(&scan.cached);
  std::set<std::pair<int, int>> seen;  // (quarter turns, flip axis)
  for (const Extent3& patch : patches) {
    for (const AugmentMode mode : {AugmentMode::rotflip, AugmentMode::crop, AugmentMode::none}) {
      for (uint64_t iteration = 0; iteration < 8; ++iteration) {
        const Batch batch = make_batch(cases, patch, mode, 42, iteration);
        for (size_t n = 0; n < scans.size(); ++n) {
          const RandomStream random{42, iteration, 0xfff000 + n};
          const Augmentation drawn = draw_augmentation(mode, scans[n].cached.shape, patch, random);
          seen.insert({drawn.quarter_turns, drawn.flip_axis});
          CHECK(difference(batch.image, static_cast<int64_t>(n), slowly(scans[n].image, drawn, patch)) <
                2e-6);
          CHECK(difference(batch.label, static_cast<int64_t>(n), slowly(scans[n].label, drawn, patch)) == 0);
        }
      }
    }
  }
  CHECK(seen.size() == 4 * 2 + 1);
}

TEST_CASE("gather: image values are exactly fma(slope, stored, intercept)") {
  const Scan scan({5, 4, 7}, DType::i16, 3);
  const Tensor image = whole_image(scan.cached);
  for (int64_t i = 0; i < image.elements(); ++i) {
    CHECK(image.data<float>()[i] == std::fmaf(scan.cached.slope,
                                              static_cast<float>(scan.cached.image.data<int16_t>()[i]),
                                              scan.cached.intercept));
  }
}

TEST_CASE("gather: several channels, and no label") {
  const Shape shape{1, 2, 3, 4, 5};
  Tensor source = Tensor::empty(shape, DType::f32, Device{});
  for (int64_t i = 0; i < source.elements(); ++i) source.data<float>()[i] = static_cast<float>(i);
  const Extent3 patch{2, 4, 3};
  Augmentation flip;
  flip.flip_axis = 1;
  flip.start = {1, 0, 2};
  kernels::GatherSample sample;
  sample.image = source.raw();
  sample.map = index_map(flip, {3, 4, 5}, patch);
  const Tensor image = Tensor::empty({1, 2, 2, 4, 3}, DType::f32, Device{});
  Tensor label = Tensor::empty({1, 1, 2, 4, 3}, DType::u8, Device{});
  std::fill_n(label.data<uint8_t>(), label.elements(), uint8_t{9});
  kernels::gather({sample}, image, label);
  for (int64_t i = 0; i < 2; ++i) {
    for (int64_t j = 0; j < 4; ++j) {
      for (int64_t k = 0; k < 3; ++k) {
        for (int64_t c = 0; c < 2; ++c) {
          const int64_t from = (((i + 1) * 4 + 3 - j) * 5 + k + 2) * 2 + c;
          CHECK(image.data<float>()[((i * 4 + j) * 3 + k) * 2 + c] == static_cast<float>(from));
        }
      }
    }
  }
  for (const double value : label.to_doubles()) CHECK(value == 0);
}

TEST_CASE("augment: ranges and frequencies of the draws") {
  const Extent3 shape{15, 12, 9}, patch{10, 10, 8};
  std::map<int, int> turns, axes;
  std::set<int64_t> starts[3];
  constexpr int kDraws = 4000;
  for (int i = 0; i < kDraws; ++i) {
    const Augmentation drawn =
        draw_augmentation(AugmentMode::rotflip, shape, patch, {1, static_cast<uint64_t>(i), 0});
    ++turns[drawn.quarter_turns];
    ++axes[drawn.flip_axis];
    CHECK(drawn.padding == Extent3{0, 0, 0});
    if (drawn.quarter_turns % 2 == 1) continue;
    for (int a = 0; a < 3; ++a) starts[a].insert(drawn.start[a]);
  }
  CHECK(starts[0] == std::set<int64_t>{0, 1, 2, 3, 4});  // 5, the last possible start, is never drawn
  CHECK(starts[1] == std::set<int64_t>{0, 1});
  CHECK(starts[2] == std::set<int64_t>{0});
  for (int k = 0; k < 4; ++k) CHECK(std::abs(turns[k] - kDraws / 4) < 120);  // 4.4 standard deviations
  for (int a = 0; a < 2; ++a) CHECK(std::abs(axes[a] - kDraws / 2) < 140);
}

TEST_CASE("augment: padding rule") {
  // One axis not longer than the patch pads all three, also those a little longer than the patch.
  const Augmentation drawn = draw_augmentation(AugmentMode::crop, {8, 14, 30}, {10, 10, 10}, {1, 2, 3});
  CHECK(drawn.padding == Extent3{4, 1, 0});
  CHECK(draw_augmentation(AugmentMode::crop, {11, 11, 11}, {10, 10, 10}, {1, 2, 3}).padding ==
        Extent3{0, 0, 0});
  CHECK(draw_augmentation(AugmentMode::crop, {10, 15, 16}, {10, 10, 10}, {1, 2, 3}).padding ==
        Extent3{3, 0, 0});
}

TEST_CASE("augment: the centre crop rounds half to even and is the identity at equal size") {
  CHECK(draw_augmentation(AugmentMode::none, {13, 15, 17}, {10, 10, 10}, {}).start == Extent3{2, 2, 4});
  const Extent3 patch{6, 5, 4};
  Scan scan(patch, DType::u8, 1);
  const Batch batch = make_batch({&scan.cached}, patch, AugmentMode::none, 1, 0);
  CHECK(difference(batch.image, 0, scan.image) < 2e-6);
  CHECK(difference(batch.label, 0, scan.label) == 0);
}

TEST_CASE("augment: mode names") {
  CHECK(parse_augment_mode("rotflip") == AugmentMode::rotflip);
  CHECK(parse_augment_mode("crop") == AugmentMode::crop);
  CHECK(parse_augment_mode("none") == AugmentMode::none);
  CHECK_THROWS_AS(parse_augment_mode("flip"), UsageError);
}

TEST_CASE("gather: CUDA equals CPU bit for bit") {
  if (cuda_device_count() == 0) {
    MESSAGE("skipped: ", cuda_unavailable_reason());
    return;
  }
  const Device cuda{DeviceKind::cuda, 0};
  std::vector<Scan> scans;
  scans.emplace_back(Extent3{40, 37, 29}, DType::u8, 1);
  scans.emplace_back(Extent3{33, 50, 70}, DType::i16, 2);
  scans.emplace_back(Extent3{20, 21, 22}, DType::f32, 3);
  std::vector<CachedCase> on_gpu;
  for (const Scan& scan : scans) {
    on_gpu.push_back(scan.cached);
    on_gpu.back().image = scan.cached.image.to(cuda);
    on_gpu.back().label = scan.cached.label.to(cuda);
  }
  for (uint64_t iteration = 0; iteration < 8; ++iteration) {
    const Extent3 patch{32, 32, 48};
    const Batch a = make_batch({&scans[0].cached, &scans[1].cached, &scans[2].cached}, patch,
                               AugmentMode::rotflip, 1, iteration);
    const Batch b =
        make_batch({&on_gpu[0], &on_gpu[1], &on_gpu[2]}, patch, AugmentMode::rotflip, 1, iteration);
    CHECK(a.image.to_doubles() == b.image.to_doubles());
    CHECK(a.label.to_doubles() == b.label.to_doubles());
  }
}
