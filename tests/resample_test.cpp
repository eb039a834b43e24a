// Resampling against trilinear interpolation written out in double precision, and what it keeps: constants,
// ramps, volumes and centres.
#include "io/resample.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "engine/error.hpp"
#include "engine/parallel.hpp"
#include "engine/random.hpp"

using namespace semivox;
using namespace semivox::io;

namespace {

std::vector<float> noise(int64_t count, uint64_t seed) {
  std::vector<float> values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = RandomStream{seed, 0, 0}.normal(i);
  return values;
}

/// One interpolated value at output voxel (i, j, k), channel c: the definition, in double.
double interpolated(const std::vector<float>& values, int64_t channels, const Extent3& from,
                    const Extent3& to, const Extent3& voxel, int64_t c) {
  double low[3], weight[3];
  for (int a = 0; a < 3; ++a) {
    const double x =
        (static_cast<double>(voxel[a]) + 0.5) * static_cast<double>(from[a]) / static_cast<double>(to[a]) -
        0.5;
    const double clamped = std::min(std::max(x, 0.0), static_cast<double>(from[a] - 1));
    low[a] = std::floor(clamped);
    weight[a] = clamped - low[a];
  }
  double sum = 0;
  for (int corner = 0; corner < 8; ++corner) {
    int64_t at[3];
    double product = 1;
    for (int a = 0; a < 3; ++a) {
      const bool upper = corner >> a & 1;
      at[a] = std::min(static_cast<int64_t>(low[a]) + upper, from[a] - 1);
      product *= upper ? weight[a] : 1 - weight[a];
    }
    sum +=
        product * static_cast<double>(values[((at[0] * from[1] + at[1]) * from[2] + at[2]) * channels + c]);
  }
  return sum;
}

struct Ball {
  double volume = 0;
  double centre[3] = {0, 0, 0};
};

/// Volume and centre of the foreground, in units of the box.
Ball measure(const std::vector<uint8_t>& labels, const Extent3& shape) {
  Ball ball;
  for (int64_t i = 0; i < shape[0]; ++i) {
    for (int64_t j = 0; j < shape[1]; ++j) {
      for (int64_t k = 0; k < shape[2]; ++k) {
        if (labels[(i * shape[1] + j) * shape[2] + k] == 0) continue;
        ball.volume += 1;
        ball.centre[0] += (static_cast<double>(i) + 0.5) / static_cast<double>(shape[0]);
        ball.centre[1] += (static_cast<double>(j) + 0.5) / static_cast<double>(shape[1]);
        ball.centre[2] += (static_cast<double>(k) + 0.5) / static_cast<double>(shape[2]);
      }
    }
  }
  for (double& c : ball.centre) c /= ball.volume;
  ball.volume /= static_cast<double>(voxel_count(shape));
  return ball;
}

}  // namespace

TEST_CASE("resample: shapes") {
  CHECK(resampled_shape({183, 140, 88}, {0.625, 0.625, 0.625}, {1.25, 1.25, 1.25}) == Extent3{92, 70, 44});
  CHECK(resampled_shape({10, 3, 1}, {1, 1, 1}, {1, 2, 9}) == Extent3{10, 2, 1});
  CHECK_THROWS_AS(resampled_shape({1, 1, 1}, {1, 1, 1}, {1, 0, 1}), UsageError);
  CHECK_THROWS_AS(resampled_shape({1, 1, 1}, {std::nan(""), 1, 1}, {1, 1, 1}), UsageError);
}

TEST_CASE("resample: linear equals the definition in double") {
  const Extent3 grids[] = {{7, 5, 9}, {14, 3, 4}, {1, 1, 1}, {4, 10, 18}, {2, 1, 30}};
  for (const Extent3& from : grids) {
    for (const int64_t channels : {1, 3}) {
      const std::vector<float> values = noise(voxel_count(from) * channels, 1);
      for (const Extent3& to : grids) {
        const std::vector<float> result = resample_linear(values, channels, from, to);
        REQUIRE(static_cast<int64_t>(result.size()) == voxel_count(to) * channels);
        double worst = 0;
        for (int64_t n = 0; n < static_cast<int64_t>(result.size()); ++n) {
          const int64_t voxel = n / channels;
          const Extent3 at{voxel / to[2] / to[1], voxel / to[2] % to[1], voxel % to[2]};
          worst = std::max(worst,
                           std::abs(result[n] - interpolated(values, channels, from, to, at, n % channels)));
        }
        CHECK(worst < 1e-6);
      }
    }
  }
}

TEST_CASE("resample: known values along one axis") {
  const std::vector<float> doubled = resample_linear({0, 1}, 1, {1, 1, 2}, {1, 1, 4});
  CHECK(doubled == std::vector<float>{0, 0.25f, 0.75f, 1});
  CHECK(resample_linear({1, 3, 10, 20}, 1, {1, 4, 1}, {1, 2, 1}) == std::vector<float>{2, 15});
  CHECK(resample_nearest({5, 6, 7}, {1, 1, 3}, {1, 1, 6}) == std::vector<uint8_t>{5, 5, 6, 6, 7, 7});
  CHECK(resample_nearest({5, 6, 7}, {3, 1, 1}, {1, 1, 1}) == std::vector<uint8_t>{6});
}

TEST_CASE("resample: the image keeps its place in the world") {
  Image image{{4, 6, 8}, noise(4 * 6 * 8, 2), {{1, 2, 3}, true, nullptr}};
  const Image result = resample_image(image, {8, 6, 4});
  CHECK(result.geometry.known);
  CHECK(result.geometry.spacing == std::array<double, 3>{0.5, 2, 6});
  CHECK(resample_image(image, image.shape).voxels == image.voxels);
}

TEST_CASE("resample: labels at half the resolution neither shift nor grow") {
  const Extent3 from{60, 64, 56}, to{30, 32, 28};
  std::vector<uint8_t> labels(voxel_count(from));
  for (int64_t i = 0; i < from[0]; ++i) {
    for (int64_t j = 0; j < from[1]; ++j) {
      for (int64_t k = 0; k < from[2]; ++k) {
        const double x = static_cast<double>(i) - 29.3, y = static_cast<double>(j) - 31.1,
                     z = static_cast<double>(k) - 27.8;
        labels[(i * from[1] + j) * from[2] + k] = x * x / 400 + y * y / 324 + z * z / 484 <= 1;
      }
    }
  }
  const Ball before = measure(labels, from), after = measure(resample_nearest(labels, from, to), to);
  CHECK(std::abs(after.volume / before.volume - 1) < 0.005);
  for (int a = 0; a < 3; ++a) {
    CHECK(std::abs(after.centre[a] - before.centre[a]) * static_cast<double>(from[a]) <
          0.05);  // input voxels
  }
  const Ball back = measure(resample_nearest(resample_nearest(labels, from, to), to, from), from);
  CHECK(back.volume == doctest::Approx(after.volume));
}

TEST_CASE("resample: only labels of the nearest voxels") {
  std::vector<uint8_t> labels(5 * 7 * 6);
  for (size_t i = 0; i < labels.size(); ++i)
    labels[i] = static_cast<uint8_t>(RandomStream{4, 0, 0}.integer(i, 200));
  const Extent3 from{5, 7, 6}, to{3, 7, 3};
  const std::vector<uint8_t> result = resample_nearest(labels, from, to);
  for (int64_t i = 0; i < to[0]; ++i) {
    for (int64_t j = 0; j < to[1]; ++j) {
      for (int64_t k = 0; k < to[2]; ++k) {
        // Along axis 0 the centres 0.33, 2, 3.67 are nearest to 0, 2, 4; along axis 2 every centre is
        // halfway.
        const int64_t a = 2 * i;
        const uint8_t first = labels[(a * 7 + j) * 6 + 2 * k], second = labels[(a * 7 + j) * 6 + 2 * k + 1];
        CHECK(result[(i * 7 + j) * 3 + k] == ((i + j + k) % 2 == 0 ? first : second));
      }
    }
  }
}

TEST_CASE("resample: class of the highest interpolated probability") {
  // Two voxels, three classes: halfway in between class 2 wins although it wins at neither.
  const std::vector<float> probabilities{0.55f, 0.05f, 0.4f, 0.05f, 0.55f, 0.4f};
  CHECK(resample_argmax(probabilities, 3, {1, 1, 2}, {1, 1, 1}) == std::vector<uint8_t>{2});
  CHECK(resample_argmax(probabilities, 3, {1, 1, 2}, {1, 1, 2}) == std::vector<uint8_t>{0, 1});
  CHECK(resample_argmax({0.5f, 0.5f}, 2, {1, 1, 1}, {1, 2, 1}) == std::vector<uint8_t>{0, 0});
}

TEST_CASE("resample: the same bits with one and two threads") {
  const Extent3 from{31, 22, 17}, to{19, 40, 13};
  const std::vector<float> values = noise(voxel_count(from), 5);
  const int threads = thread_count();
  set_thread_count(1);
  const std::vector<float> one = resample_linear(values, 1, from, to);
  set_thread_count(2);
  CHECK(resample_linear(values, 1, from, to) == one);
  set_thread_count(threads);
}
