// The distance transform against the minimum over all object voxels.
#include "kernels/distance.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "engine/parallel.hpp"
#include "engine/random.hpp"

using namespace semivox;

namespace {

Tensor random_mask(const Shape& shape, double share, uint64_t seed) {
  const RandomStream random{seed, 0, 0};
  Tensor mask = Tensor::empty(shape, DType::u8, Device{});
  for (int64_t i = 0; i < mask.elements(); ++i) mask.data<uint8_t>()[i] = random.uniform(i) < share ? 7 : 0;
  return mask;
}

std::vector<double> brute_force(const Tensor& mask, std::array<double, 3> spacing) {
  const Shape s = mask.shape();
  std::vector<double> result(static_cast<size_t>(mask.elements()), std::numeric_limits<double>::infinity());
  const auto square = [](double x) { return x * x; };
  for (int64_t n = 0; n < s.n; ++n) {
    for (int64_t b = 0; b < s.voxels(); ++b) {
      if (mask.data<uint8_t>()[n * s.voxels() + b] == 0) continue;
      for (int64_t a = 0; a < s.voxels(); ++a) {
        const double squared = square(spacing[0] * static_cast<double>(a / (s.h * s.w) - b / (s.h * s.w))) +
                               square(spacing[1] * static_cast<double>(a / s.w % s.h - b / s.w % s.h)) +
                               square(spacing[2] * static_cast<double>(a % s.w - b % s.w));
        double& best = result[static_cast<size_t>(n * s.voxels() + a)];
        best = std::min(best, squared);
      }
    }
  }
  return result;
}

const std::vector<Shape> kShapes{{2, 1, 7, 8, 9},  {1, 1, 1, 14, 15}, {1, 1, 13, 1, 6},  {1, 1, 6, 11, 1},
                                 {1, 1, 1, 1, 20}, {1, 1, 20, 1, 1},  {1, 1, 12, 10, 11}};

}  // namespace

TEST_CASE("distance: unit spacing is exact, in f64 and f32") {
  uint64_t seed = 1;
  for (const Shape& shape : kShapes) {
    for (const double share : {0.005, 0.03, 0.2, 0.7}) {
      CAPTURE(shape.str());
      CAPTURE(share);
      const Tensor mask = random_mask(shape, share, seed++);
      const std::vector<double> expected = brute_force(mask, {1, 1, 1});
      for (const DType dtype : {DType::f64, DType::f32}) {
        Tensor out = Tensor::empty(shape, dtype, Device{});
        kernels::squared_distance(mask, {1, 1, 1}, out);
        CHECK(out.to_doubles() == expected);
      }
    }
  }
}

TEST_CASE("distance: anisotropic spacing") {
  uint64_t seed = 50;
  for (const Shape& shape : kShapes) {
    for (const std::array<double, 3>& spacing :
         {std::array{0.625, 0.625, 1.25}, std::array{10.0, 1.37, 0.91}}) {
      CAPTURE(shape.str());
      const Tensor mask = random_mask(shape, 0.03, seed++);
      const std::vector<double> expected = brute_force(mask, spacing);
      Tensor out = Tensor::empty(shape, DType::f64, Device{});
      kernels::squared_distance(mask, spacing, out);
      const std::vector<double> found = out.to_doubles();
      for (size_t i = 0; i < found.size(); ++i) {
        if (std::isinf(expected[i])) {
          REQUIRE(found[i] == expected[i]);
        } else {
          REQUIRE(std::abs(found[i] - expected[i]) <= 1e-14 * expected[i]);
        }
      }
    }
  }
}

TEST_CASE("distance: symmetric objects, where parabolas meet in one point and rounding decides their order") {
  const Shape shape{1, 1, 30, 32, 34};
  Tensor mask = Tensor::zeros(shape, DType::u8, Device{});
  for (int64_t d = 0; d < shape.d; ++d)
    for (int64_t h = 0; h < shape.h; ++h)
      for (int64_t w = 0; w < shape.w; ++w) {
        const int64_t squared = (d - 15) * (d - 15) + (h - 16) * (h - 16) + (w - 17) * (w - 17);
        mask.data<uint8_t>()[(d * shape.h + h) * shape.w + w] = squared > 120 && squared <= 144;
      }
  for (const std::array<double, 3>& spacing : {std::array{0.7, 1.1, 2.5}, std::array{0.3, 0.1, 0.7}}) {
    const std::vector<double> expected = brute_force(mask, spacing);
    Tensor out = Tensor::empty(shape, DType::f64, Device{});
    kernels::squared_distance(mask, spacing, out);
    const std::vector<double> found = out.to_doubles();
    double worst = 0;
    for (size_t i = 0; i < found.size(); ++i) {
      worst = std::max(worst, std::abs(found[i] - expected[i]) / std::max(expected[i], 1.0));
    }
    CHECK(worst <= 1e-14);
  }
}

TEST_CASE("distance: an empty sample is infinitely far, its neighbour in the batch is not touched") {
  const Shape shape{2, 1, 3, 4, 5};
  Tensor mask = Tensor::zeros(shape, DType::u8, Device{});
  mask.data<uint8_t>()[shape.voxels()] = 1;  // first voxel of the second sample
  Tensor out = Tensor::empty(shape, DType::f64, Device{});
  kernels::squared_distance(mask, {1, 1, 1}, out);
  const double* values = out.data<double>();
  CHECK(std::all_of(values, values + shape.voxels(), [](double v) { return std::isinf(v) && v > 0; }));
  CHECK(values[shape.voxels()] == 0);
  CHECK(values[2 * shape.voxels() - 1] == 4 + 9 + 16);
}

TEST_CASE("distance: the same bits with 1 and 4 threads") {
  const Shape shape{2, 1, 70, 80, 72};
  const Tensor mask = random_mask(shape, 0.0005, 9);
  Tensor one = Tensor::empty(shape, DType::f64, Device{});
  Tensor four = Tensor::empty(shape, DType::f64, Device{});
  const int threads = thread_count();
  set_thread_count(1);
  kernels::squared_distance(mask, {0.7, 0.9, 1.3}, one);
  set_thread_count(4);
  kernels::squared_distance(mask, {0.7, 0.9, 1.3}, four);
  set_thread_count(threads);
  CHECK(one.to_doubles() == four.to_doubles());
}

TEST_CASE("distance: CUDA equals the CPU") {
  if (cuda_device_count() == 0) {
    MESSAGE("skipped: " << cuda_unavailable_reason());
    return;
  }
  const Device gpu{DeviceKind::cuda, 0};
  uint64_t seed = 500;
  for (const Shape& shape : {Shape{2, 1, 40, 50, 60}, Shape{2, 1, 1, 70, 33}}) {
    for (const std::array<double, 3>& spacing : {std::array{1.0, 1.0, 1.0}, std::array{0.7, 1.1, 2.5}}) {
      for (const DType dtype : {DType::f64, DType::f32}) {
        CAPTURE(shape.str());
        CAPTURE(name_of(dtype));
        const Tensor mask = random_mask(shape, 0.002, seed++);
        Tensor out = Tensor::empty(shape, dtype, Device{});
        Tensor out_gpu = Tensor::empty(shape, dtype, gpu);
        kernels::squared_distance(mask, spacing, out);
        kernels::squared_distance(mask.to(gpu), spacing, out_gpu);
        const std::vector<double> expected = out.to_doubles(), found = out_gpu.to_doubles();
        // Fused multiply-add may round the last bit differently; with spacing 1 all values are integers.
        const double tolerance = spacing[0] == 1 ? 0 : dtype == DType::f64 ? 1e-14 : 3e-7;
        double worst = 0;
        for (size_t i = 0; i < found.size(); ++i) {
          if (found[i] != expected[i]) worst = std::max(worst, std::abs(found[i] / expected[i] - 1));
        }
        CHECK(worst <= tolerance);
      }
    }
  }
}
