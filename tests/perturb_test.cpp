// Perturbations of feature maps against plain loops.

#include "kernels/perturb.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "engine/arithmetic.hpp"
#include "engine/parallel.hpp"
#include "tests/hash_noise.hpp"

using namespace semivox;
using namespace semivox::testing;

namespace {

Tensor features(const Shape& shape, double offset = 0) {
  return by_formula<double>(shape, [&](int64_t i) { return hash_noise(i, 5) + offset; });
}

}  // namespace

TEST_CASE("weak positions: below a share of each sample's largest channel mean") {
  for (const Shape& shape : {Shape{3, 5, 1, 7, 9}, Shape{2, 4, 1, 64, 48}, Shape{2, 3, 5, 20, 30}}) {
    const Tensor x = features(shape, 0.4);
    for (const double ratio : {0.7, 0.9, 1.0}) {
      const Tensor mask = kernels::weak_positions(x, ratio);
      REQUIRE(mask.shape() == shape.with_channels(1));
      int64_t wrong = 0, strong = 0;
      for (int64_t n = 0; n < shape.n; ++n) {
        std::vector<double> mean(static_cast<size_t>(shape.voxels()));
        for (int64_t v = 0; v < shape.voxels(); ++v) {
          double sum = 0;
          for (int64_t c = 0; c < shape.c; ++c)
            sum += x.data<double>()[(n * shape.voxels() + v) * shape.c + c];
          mean[static_cast<size_t>(v)] = sum / static_cast<double>(shape.c);
        }
        const double threshold = *std::max_element(mean.begin(), mean.end()) * ratio;
        for (int64_t v = 0; v < shape.voxels(); ++v) {
          const bool weak = mask.data<uint8_t>()[n * shape.voxels() + v] != 0;
          wrong += weak != (mean[static_cast<size_t>(v)] < threshold);
          strong += !weak;
        }
      }
      CHECK(wrong == 0);
      CHECK(strong >= shape.n);  // the largest itself is never below
      if (ratio == 1.0) CHECK(strong == shape.n);
    }
  }
}

TEST_CASE("weak positions: f32 and bf16 decide on their own values; all stay where the largest is negative") {
  const Shape shape{2, 6, 1, 16, 12};
  const Tensor x = features(shape, 0.4);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Tensor narrow = cast(x, dtype);
    CHECK(kernels::weak_positions(narrow, 0.8).to_doubles() ==
          kernels::weak_positions(cast(narrow, DType::f64), 0.8).to_doubles());
  }
  for (const double m : kernels::weak_positions(features(shape, -2), 0.8).to_doubles()) CHECK_UNARY(m == 1);
}

TEST_CASE("masked positions are 0 in all channels, others untouched") {
  const Shape shape{2, 3, 2, 4, 5};
  const Tensor x = features(shape);
  const Tensor mask = by_formula<uint8_t>(shape.with_channels(1), [](int64_t v) { return v % 3 != 1; });
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    const std::vector<double> in = cast(x, dtype).to_doubles(),
                              out = kernels::mask_positions(cast(x, dtype), mask).to_doubles();
    for (size_t i = 0; i < in.size(); ++i) CHECK_UNARY(out[i] == (i / 3 % 3 != 1 ? in[i] : 0));
  }
}

TEST_CASE("noise scales every channel and position by its own factor, the same in all samples") {
  const Shape shape{3, 5, 1, 31, 41};
  const RandomStream random{11, 4, 2};
  const Tensor ones = by_formula<double>(shape, [](int64_t) { return 1.0; });
  const std::vector<double> factor = kernels::scale_by_noise(ones, 0.3, random).to_doubles();
  const auto per_sample = static_cast<size_t>(shape.voxels() * shape.c);
  double mean = 0, square = 0;
  for (size_t i = 0; i < factor.size(); ++i) {
    CHECK_UNARY(factor[i] == factor[i % per_sample]);
    CHECK_UNARY(std::abs(factor[i] - 1) < 0.3);
  }
  for (size_t i = 0; i < per_sample; ++i) {
    mean += (factor[i] - 1) / static_cast<double>(per_sample);
    square += (factor[i] - 1) * (factor[i] - 1) / static_cast<double>(per_sample);
  }
  // Uniform in (-0.3, 0.3): variance 0.03, known to 1.1 % from 6,355 numbers; four standard deviations.
  CHECK(std::abs(mean) < 4 * std::sqrt(0.03 / static_cast<double>(per_sample)));
  CHECK(std::abs(square - 0.03) < 4 * 0.03 * std::sqrt(0.8 / static_cast<double>(per_sample)));

  const Tensor x = features(shape);
  const std::vector<double> in = x.to_doubles(), out = kernels::scale_by_noise(x, 0.3, random).to_doubles();
  for (size_t i = 0; i < in.size(); ++i) CHECK_UNARY(out[i] == in[i] * factor[i]);
}
