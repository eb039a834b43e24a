// Grid distortion: the coordinates of an axis, sampling against a plain loop, and patches of distorted scans.
#include "kernels/grid_distortion.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "engine/random.hpp"
#include "io/batch.hpp"

using namespace semivox;
using namespace semivox::io;
using kernels::distorted_axis;
using kernels::DistortedPatch;
using kernels::draw_grid_distortion;
using kernels::gather_distorted;

namespace {

using Axis = std::vector<float>;

Axis identity(int64_t size) {
  Axis axis;
  for (int64_t i = 0; i < size; ++i) axis.push_back(static_cast<float>(i));
  return axis;
}

/// A cached case of stored integers, with labels 0 ... 3.
CachedCase scan(const Extent3& shape, DType dtype) {
  CachedCase cached;
  cached.shape = shape;
  cached.slope = 0.037f;
  cached.intercept = -0.77f;
  const Shape s{1, 1, shape[0], shape[1], shape[2]};
  cached.image = Tensor::empty(s, dtype, Device{});
  cached.label = Tensor::empty(s, DType::u8, Device{});
  const RandomStream random{7, 0, 0};
  for (int64_t i = 0; i < cached.image.elements(); ++i) {
    const int64_t stored = random.integer(static_cast<uint64_t>(i), 200);
    if (dtype == DType::u8) cached.image.data<uint8_t>()[i] = static_cast<uint8_t>(stored);
    if (dtype == DType::i16) cached.image.data<int16_t>()[i] = static_cast<int16_t>(stored - 100);
    if (dtype == DType::f32) cached.image.data<float>()[i] = static_cast<float>(stored) / 7;
    cached.label.data<uint8_t>()[i] = static_cast<uint8_t>(stored & 3);
  }
  return cached;
}

double value_at(const CachedCase& c, const Extent3& at) {
  const int64_t i = (at[0] * c.shape[1] + at[1]) * c.shape[2] + at[2];
  return std::fma(c.slope, static_cast<float>(c.image.to_doubles()[static_cast<size_t>(i)]), c.intercept);
}

/// Image and label at a source position: linear and nearest, clamped to the scan.
std::pair<double, int> sampled(const CachedCase& c, const double (&position)[3]) {
  Extent3 low, nearest;
  double t[3];
  for (size_t a = 0; a < 3; ++a) {
    const double x = std::clamp(position[a], 0.0, static_cast<double>(c.shape[a] - 1));
    low[a] = static_cast<int64_t>(x);
    t[a] = x - static_cast<double>(low[a]);
    nearest[a] = static_cast<int64_t>(std::nearbyint(x));
  }
  double value = 0;
  for (int corner = 0; corner < 8; ++corner) {
    Extent3 at;
    double weight = 1;
    for (size_t a = 0; a < 3; ++a) {
      const bool up = (corner >> a & 1) != 0;
      at[a] = std::min(low[a] + (up ? 1 : 0), c.shape[a] - 1);
      weight *= up ? t[a] : 1 - t[a];
    }
    value += weight * value_at(c, at);
  }
  const int64_t i = (nearest[0] * c.shape[1] + nearest[1]) * c.shape[2] + nearest[2];
  return {value, c.label.data<uint8_t>()[i]};
}

kernels::GatherSample sample_of(const CachedCase& c) {
  kernels::GatherSample sample;
  sample.image = c.image.raw();
  sample.label = c.label.data<uint8_t>();
  sample.dtype = c.image.dtype();
  sample.slope = c.slope;
  sample.intercept = c.intercept;
  return sample;
}

struct Patch {
  Tensor image, label;
};

Patch gathered(const CachedCase& c, const std::array<Axis, 3>& source) {
  const auto size = [&](size_t a) { return static_cast<int64_t>(source[a].size()); };
  Patch patch{Tensor::empty({1, 1, size(0), size(1), size(2)}, DType::f32, {}),
              Tensor::empty({1, 1, size(0), size(1), size(2)}, DType::u8, {})};
  gather_distorted({sample_of(c), c.shape, source}, patch.image, patch.label);
  return patch;
}

/// Checks a patch against `sampled`, voxel by voxel; negative coordinates are padding.
void check_patch(const Patch& found, const CachedCase& c, const std::array<Axis, 3>& source) {
  double largest = 0;
  int64_t i = 0, wrong_labels = 0;
  for (const float x : source[0]) {
    for (const float y : source[1]) {
      for (const float z : source[2]) {
        const bool inside = x >= 0 && y >= 0 && z >= 0;
        const auto [value, label] = sampled(c, {x, y, z});
        largest = std::max(largest, std::abs(found.image.data<float>()[i] - (inside ? value : 0.0)));
        wrong_labels += found.label.data<uint8_t>()[i] != (inside ? label : 0);
        ++i;
      }
    }
  }
  CHECK(largest < 2e-6);
  CHECK(wrong_labels == 0);
}

}  // namespace

TEST_CASE("grid distortion: coordinates of an axis") {
  // 12 voxels, cells of 2, the sixth one complete: it ends where its factor says, not at 12.
  const Axis axis = distorted_axis(12, {1.0, 1.5, 0.5, 1.0, 1.0, 1.0});
  const Axis expected{0, 2, 2, 5, 5, 6, 6, 8, 8, 10, 10, 12};
  REQUIRE(axis.size() == expected.size());
  for (size_t i = 0; i < axis.size(); ++i) CHECK(axis[i] == doctest::Approx(expected[i]).epsilon(1e-6));
  // 17 voxels, cells of 3: the last has two voxels and ends at the size.
  const Axis longer = distorted_axis(17, {1.1, 0.9, 1.0, 1.05, 0.95, 1.1});
  CHECK(longer[0] == 0);
  CHECK(longer[1] == doctest::Approx(1.65));
  CHECK(longer[2] == doctest::Approx(3.3));
  CHECK(longer[3] == doctest::Approx(3.3));
  CHECK(longer[14] == doctest::Approx(15.0));
  CHECK(longer[15] == doctest::Approx(15.0));
  CHECK(longer[16] == doctest::Approx(17.0));
  // A multiple of the cells has no rest.
  CHECK(distorted_axis(10, std::vector<double>(6, 1.0)) == Axis{0, 2, 2, 4, 4, 6, 6, 8, 8, 10});
  for (const int64_t size : {1, 2, 4}) CHECK(distorted_axis(size, {1, 1.1, 1, 1, 1, 1}) == identity(size));
}

TEST_CASE("grid distortion: coordinates rise, stay near their voxels, and follow the stream") {
  const std::array<int64_t, 3> size{61, 40, 23};
  const auto drawn = draw_grid_distortion(size, 5, 0.1, {3, 4, 5}, 6);
  for (size_t a = 0; a < 3; ++a) {
    REQUIRE(static_cast<int64_t>(drawn[a].size()) == size[a]);
    CHECK(std::is_sorted(drawn[a].begin(), drawn[a].end()));
    for (int64_t i = 0; i < size[a]; ++i) {
      // At most 10 % of the way, plus one voxel by which a cell with both ends included runs ahead.
      CHECK(std::abs(drawn[a][static_cast<size_t>(i)] - static_cast<float>(i)) <=
            0.1 * static_cast<double>(i + 1) + 1.1);
    }
  }
  CHECK(draw_grid_distortion(size, 5, 0.1, {3, 4, 5}, 6) == drawn);
  CHECK(draw_grid_distortion(size, 5, 0.1, {3, 5, 5}, 6) != drawn);
  CHECK(draw_grid_distortion(size, 5, 0.0, {3, 4, 5}, 6)[1] ==
        distorted_axis(40, std::vector<double>(6, 1.0)));
}

TEST_CASE("grid distortion: the scan's own coordinates give the scan") {
  for (const DType dtype : {DType::u8, DType::i16, DType::f32}) {
    const CachedCase c = scan({5, 4, 6}, dtype);
    const Patch patch = gathered(c, {identity(5), identity(4), identity(6)});
    CHECK(patch.image.to_doubles() == whole_image(c).to_doubles());
    CHECK(patch.label.to_doubles() == c.label.to_doubles());
  }
}

TEST_CASE(
    "grid distortion: images are interpolated, labels taken from the nearest voxel, beyond is the edge") {
  for (const DType dtype : {DType::u8, DType::i16, DType::f32}) {
    const CachedCase c = scan({6, 5, 7}, dtype);
    const std::array<Axis, 3> source{Axis{0.0f, 0.3f, 2.5f, 3.5f, 4.99f, 5.0f, 5.4f, 7.0f, -1.0f},
                                     Axis{-1.0f, 1.25f, 3.0f, 4.75f}, Axis{2.0f, 1.5f, 0.5f, 6.5f}};
    check_patch(gathered(c, source), c, source);
  }
  const CachedCase flat = scan({1, 3, 4}, DType::u8);
  check_patch(gathered(flat, {Axis{0.0f}, Axis{0.5f, 1.7f}, Axis{3.0f, 2.2f, 9.0f}}), flat,
              {Axis{0.0f}, Axis{0.5f, 1.7f}, Axis{3.0f, 2.2f, 9.0f}});
}

TEST_CASE("grid distortion: a tenth of the patches, cut out of the distorted scan") {
  // The second patch is larger than the scan along one axis: all axes are padded.
  for (const Extent3& patch : {Extent3{12, 10, 8}, Extent3{24, 10, 8}}) {
    const CachedCase c = scan({20, 17, 13}, DType::i16);
    int distorted = 0;
    std::array<int64_t, 3> last_start{};
    for (uint64_t iteration = 0; iteration < 600; ++iteration) {
      const RandomStream random{11, iteration, 0xfff000};
      const Augmentation drawn = draw_augmentation(AugmentMode::distort, c.shape, patch, random);
      for (size_t a = 0; a < 3; ++a) last_start[a] = std::max(last_start[a], drawn.start[a]);
      CHECK(drawn.quarter_turns == 0);
      CHECK(drawn.flip_axis == -1);
      std::array<Axis, 3> axes = drawn.distortion;
      if (axes[0].empty()) {
        for (size_t a = 0; a < 3; ++a) axes[a] = identity(c.shape[a]);
      } else {
        ++distorted;
      }
      if (iteration >= 60) continue;
      std::array<Axis, 3> source;
      for (size_t a = 0; a < 3; ++a) {
        for (int64_t i = 0; i < patch[a]; ++i) {
          const int64_t at = drawn.start[a] - drawn.padding[a] + i;
          const bool inside = at >= 0 && at < c.shape[a];
          source[a].push_back(inside ? axes[a][static_cast<size_t>(at)] : -1.0f);
        }
      }
      const io::Batch batch = make_batch({&c}, patch, AugmentMode::distort, 11, iteration);
      check_patch({batch.image, batch.label}, c, source);
    }
    CHECK(std::abs(distorted - 60) < 30);                                      // 4 standard deviations
    if (patch[0] == 12) CHECK(last_start == std::array<int64_t, 3>{8, 7, 5});  // the last possible ones
  }
}

TEST_CASE("grid distortion: an unlabelled scan, and CUDA equals the CPU") {
  CachedCase c = scan({9, 8, 7}, DType::f32);
  const std::array<Axis, 3> source = draw_grid_distortion(c.shape, 3, 0.1, {1, 2, 3}, 0);
  const Patch with = gathered(c, source);
  kernels::GatherSample hidden = sample_of(c);
  hidden.label = nullptr;
  const Patch without{Tensor::empty(with.image.shape(), DType::f32, {}),
                      Tensor::empty(with.label.shape(), DType::u8, {})};
  gather_distorted({hidden, c.shape, source}, without.image, without.label);
  CHECK(without.image.to_doubles() == with.image.to_doubles());
  for (const double label : without.label.to_doubles()) CHECK(label == 0);
  if (cuda_device_count() == 0) {
    MESSAGE("skipped: ", cuda_unavailable_reason());
    return;
  }
  const Device cuda{DeviceKind::cuda, 0};
  c.image = c.image.to(cuda);
  c.label = c.label.to(cuda);
  const Patch found{Tensor::empty(with.image.shape(), DType::f32, cuda),
                    Tensor::empty(with.label.shape(), DType::u8, cuda)};
  gather_distorted({sample_of(c), c.shape, source}, found.image, found.label);
  const std::vector<double> a = found.image.to_doubles(), b = with.image.to_doubles();
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  CHECK(largest < 1e-6);
  CHECK(found.label.to_doubles() == with.label.to_doubles());
}
