// Changes of intensity: contrast, brightness and noise, each alone and together, against the definition.
#include "kernels/intensity.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "engine/parallel.hpp"
#include "tests/hash_noise.hpp"

using namespace semivox;
using kernels::change_intensity;
using kernels::IntensityChange;
using testing::by_formula;
using testing::hash_noise;

namespace {

const Shape kShape{3, 2, 5, 7, 3};  // 210 elements per sample: no multiple of four

Tensor image() {
  return by_formula<float>(kShape, [](int64_t i) { return 0.3 + hash_noise(i, 4); });
}

double mean(const Tensor& x) {
  double sum = 0;
  for (const double v : x.to_doubles()) sum += v;
  return sum / static_cast<double>(x.elements());
}

/// Largest difference to the definition, element by element in double.
double error(const Tensor& x, const std::vector<IntensityChange>& changes) {
  const Tensor found = change_intensity(x, changes);
  double largest = 0;
  for (int64_t n = 0; n < x.shape().n; ++n) {
    const IntensityChange& c = changes[static_cast<size_t>(n)];
    const std::vector<double> from = x.samples(n, 1).to_doubles(), to = found.samples(n, 1).to_doubles();
    const double shift = c.brightness * (c.contrast * mean(x.samples(n, 1)));
    for (size_t i = 0; i < from.size(); ++i) {
      const double noise = c.noise * static_cast<double>(c.random.normal(i));
      largest = std::max(largest, std::abs(c.contrast * from[i] + shift + noise - to[i]));
    }
  }
  return largest;
}

}  // namespace

TEST_CASE("intensity: without a change the image stays as it is, bit for bit") {
  const Tensor x = image();
  CHECK(change_intensity(x, std::vector<IntensityChange>(3)).to_doubles() == x.to_doubles());
}

TEST_CASE("intensity: contrast, brightness and noise alone and together, another change for every sample") {
  const Tensor x = image();
  const RandomStream random{1, 2, 3};
  CHECK(error(x, {{.contrast = 0.5f}, {.contrast = 1.5f}, {.contrast = 1.0f}}) < 3e-7);
  CHECK(error(x, {{.brightness = 0.5f}, {.brightness = -0.5f}, {}}) < 3e-7);
  CHECK(error(x, {{.noise = 0.1f, .random = random}, {}, {.noise = 0.05f, .random = {1, 2, 4}}}) < 3e-7);
  CHECK(error(x, {{1.3f, -0.4f, 0.1f, random}, {0.6f, 0.2f, 0.0f, {}}, {0.9f, 0.5f, 0.03f, {9, 9, 9}}}) <
        3e-7);
}

TEST_CASE("intensity: the mean is that of the scaled sample, over all its voxels and channels") {
  const Tensor x = image();
  const std::vector<IntensityChange> changes(3, {.contrast = 0.8f, .brightness = 0.25f});
  const Tensor y = change_intensity(x, changes);
  for (int64_t n = 0; n < 3; ++n)
    CHECK(mean(y.samples(n, 1)) == doctest::Approx(1.25 * 0.8 * mean(x.samples(n, 1))).epsilon(1e-6));
}

TEST_CASE("intensity: noise has the wanted deviation and depends on seed, step and stream") {
  const Tensor x = Tensor::zeros({1, 1, 40, 40, 40}, DType::f32, {});
  const auto noise = [&](const RandomStream& random) {
    return change_intensity(x, {{.noise = 0.1f, .random = random}}).to_doubles();
  };
  const std::vector<double> values = noise({1, 1, 1});
  double sum = 0, square = 0;
  for (const double v : values) {
    sum += v;
    square += v * v;
  }
  const auto count = static_cast<double>(values.size());
  CHECK(std::abs(sum / count) < 4 * 0.1 / std::sqrt(count));
  CHECK(std::sqrt(square / count) == doctest::Approx(0.1).epsilon(4 / std::sqrt(2 * count)));
  CHECK(noise({1, 1, 1}) == values);
  CHECK(noise({2, 1, 1}) != values);
  CHECK(noise({1, 2, 1}) != values);
  CHECK(noise({1, 1, 2}) != values);
}

TEST_CASE("intensity: the number of threads does not change a bit; CUDA equals the CPU") {
  const Tensor x = by_formula<float>({2, 1, 31, 29, 23}, [](int64_t i) { return hash_noise(i, 5); });
  const std::vector<IntensityChange> changes{{1.3f, -0.4f, 0.1f, {1, 2, 3}}, {0.6f, 0.2f, 0.05f, {4, 5, 6}}};
  const int threads = thread_count();
  set_thread_count(1);
  const std::vector<double> one = change_intensity(x, changes).to_doubles();
  set_thread_count(3);
  CHECK(change_intensity(x, changes).to_doubles() == one);
  set_thread_count(threads);
  if (cuda_device_count() == 0) {
    MESSAGE("skipped: ", cuda_unavailable_reason());
    return;
  }
  const std::vector<double> cuda = change_intensity(x.to(Device{DeviceKind::cuda, 0}), changes).to_doubles();
  double largest = 0;
  for (size_t i = 0; i < one.size(); ++i) largest = std::max(largest, std::abs(cuda[i] - one[i]));
  CHECK(largest < 1e-6);
}
