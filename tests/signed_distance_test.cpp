// Signed distance maps: closed forms, SciPy's distances bit for bit, and the conventions at the edges.
#include "kernels/signed_distance.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "engine/parallel.hpp"
#include "tests/hash_noise.hpp"

using namespace semivox;
using kernels::signed_distance;
using semivox::testing::by_formula;

namespace {

/// Labels (samples,1,D,H,W) of f(sample, d, h, w).
template <class F>
Tensor labels_of(const Shape& shape, const F& f) {
  return by_formula<uint8_t>(shape, [&](int64_t i) {
    const int64_t v = i % shape.voxels();
    return f(i / shape.voxels(), v / (shape.h * shape.w), v / shape.w % shape.h, v % shape.w) ? 1 : 0;
  });
}

/// FNV-1a over the bytes of the f32 elements, lowest byte first.
uint64_t fingerprint(const Tensor& tensor) {
  uint64_t hash = 0xcbf29ce484222325;
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    const auto bits = std::bit_cast<uint32_t>(tensor.data<float>()[i]);
    for (int shift = 0; shift < 32; shift += 8) hash = (hash ^ (bits >> shift & 255)) * 0x100000001b3;
  }
  return hash;
}

/// A thick ellipsoid, and slanted bands that the border of the volume cuts.
Tensor two_objects() {
  return labels_of({2, 1, 20, 18, 14}, [](int64_t n, int64_t d, int64_t h, int64_t w) {
    return n == 0 ? (d - 9) * (d - 9) + (h - 8) * (h - 8) + 2 * (w - 6) * (w - 6) <= 49
                  : (d + 2 * h + 3 * w) % 29 < 11;
  });
}

}  // namespace

TEST_CASE("signed distance: a half-space along each axis") {
  const std::vector<double> expected{-1, -.75, -.5, 0, .25, .5, .75, 1};
  for (const Shape& shape : {Shape{1, 1, 8, 1, 1}, Shape{1, 1, 1, 8, 1}, Shape{1, 1, 1, 1, 8}}) {
    CHECK(signed_distance(labels_of(shape, [](int64_t, int64_t d, int64_t h, int64_t w) {
            return d + h + w < 4;
          })).to_doubles() == expected);
  }
  // Nothing lies beyond the faces: a plane has no other boundary than the one inside.
  const Tensor plane =
      signed_distance(labels_of({1, 1, 8, 5, 3}, [](int64_t, int64_t d, int64_t, int64_t) { return d < 4; }));
  for (int64_t i = 0; i < plane.elements(); ++i)
    CHECK_UNARY(plane.data<float>()[i] == static_cast<float>(expected[static_cast<size_t>(i / 15)]));
}

TEST_CASE("signed distance: a ball") {
  const Shape shape{1, 1, 8, 8, 6};
  const Tensor ball = labels_of(shape, [](int64_t, int64_t d, int64_t h, int64_t w) {
    return 4 * (d * d + h * h + w * w) - 28 * (d + h) - 20 * w + 123 <=
           27;  // radius^2 6.75 around 3.5, 3.5, 2.5
  });
  const std::vector<double> s = signed_distance(ball).to_doubles();
  const std::vector<double> line{1.0 / 3, 0, -0.632456, -1, -1, -0.632456, 0, 1.0 / 3};
  double sum = 0;
  for (const double value : s) sum += value;
  for (size_t d = 0; d < 8; ++d) CHECK(std::abs(s[(d * 8 + 3) * 6 + 2] - line[d]) < 5e-7);
  CHECK(std::abs(sum - 141.574842169) < 1e-6);  // rounded to f32, 384 times
}

TEST_CASE("signed distance: SciPy's transform, bit for bit") {
  // distance_transform_edt of both sides in f64, boundary by erosion with the border's voxels repeated,
  // rounded to f32.
  CHECK(fingerprint(signed_distance(two_objects())) == 0x7e6201811bd89da8);
}

TEST_CASE("signed distance: samples do not touch each other, nor do threads") {
  const Tensor labels = two_objects();
  const std::vector<double> both = signed_distance(labels).to_doubles();
  std::vector<double> single = signed_distance(labels.samples(0, 1)).to_doubles();
  const std::vector<double> second = signed_distance(labels.samples(1, 1)).to_doubles();
  single.insert(single.end(), second.begin(), second.end());
  CHECK(single == both);
  const int threads = thread_count();
  set_thread_count(threads == 1 ? 4 : 1);
  CHECK(signed_distance(labels).to_doubles() == both);
  set_thread_count(threads);
}

TEST_CASE("signed distance: without foreground, without background, and thin objects") {
  const Shape shape{3, 1, 6, 7, 5};
  const Tensor labels = labels_of(shape, [](int64_t n, int64_t d, int64_t, int64_t) {
    return n == 1 || (n == 2 && (d == 2 || d == 3));  // nothing; everything; a sheet of two voxels
  });
  const std::vector<double> s = signed_distance(labels).to_doubles();
  const auto sample = static_cast<int64_t>(shape.voxels());
  CHECK(std::all_of(s.begin(), s.begin() + 2 * sample, [](double v) { return v == 0; }));
  for (int64_t v = 0; v < sample; ++v) {
    const std::vector<double> slices{1, 0.5, 0, 0, 0.5, 1};
    CHECK_UNARY(s[static_cast<size_t>(2 * sample + v)] == slices[static_cast<size_t>(v / 35)]);
  }
}

TEST_CASE("signed distance: every label is foreground") {
  Tensor labels = two_objects(), other = two_objects();
  for (int64_t i = 0; i < other.elements(); ++i) other.data<uint8_t>()[i] *= static_cast<uint8_t>(1 + i % 3);
  CHECK(signed_distance(labels).to_doubles() == signed_distance(other).to_doubles());
}

TEST_CASE("signed distance: CUDA gives the same bits") {
  if (cuda_device_count() == 0) {
    MESSAGE("skipped: " << cuda_unavailable_reason());
    return;
  }
  CHECK(fingerprint(signed_distance(two_objects().to({DeviceKind::cuda, 0})).to({})) == 0x7e6201811bd89da8);
}
