// FeCL: numbers of the published code, and value and gradient against the formula with whole matrices.

#include "kernels/fecl.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "engine/arithmetic.hpp"
#include "kernels/unit_vectors.hpp"
#include "layers/unit_vectors.hpp"
#include "tests/hash_noise.hpp"
#include "tests/op_check.hpp"

using namespace semivox;
using namespace semivox::testing;
using kernels::FeclOptions;

namespace {

/// P patches of B samples with F features as the grid of a feature map.
Shape patches(int64_t samples, int64_t count, int64_t features) { return {samples, features, 1, 1, count}; }

/// Unit vectors in directions s sin(a i + b), i in the order of memory.
Tensor waves(const Shape& shape, double a, double b) {
  Tensor x = Tensor::empty(shape, DType::f64, {}), squares;
  for (int64_t i = 0; i < x.elements(); ++i) x.data<double>()[i] = std::sin(a * static_cast<double>(i) + b);
  return kernels::unit_vectors(x, squares);
}

Tensor random_directions(const Shape& shape, uint32_t seed) {
  Tensor squares;
  return kernels::unit_vectors(random_tensor(shape, seed), squares);
}

Tensor classes_of(const Shape& shape, const std::vector<int>& values) {
  Tensor t = Tensor::empty(shape.with_channels(1), DType::u8, {});
  for (size_t i = 0; i < values.size(); ++i) t.data<uint8_t>()[i] = static_cast<uint8_t>(values[i]);
  return t;
}

Tensor random_classes(const Shape& shape, int64_t classes, int64_t number) {
  return by_formula<uint8_t>(shape.with_channels(1), [&](int64_t i) {
    return static_cast<double>(classes) * (hash_noise(i, number) + 1) / 2;
  });
}

struct Outcome {
  double loss = 0, own = 0, cross = 0, pairs = 0;
  std::vector<double> gradient;
};

Outcome run_fecl(const Tensor& features, const Tensor& teacher, const Tensor& classes,
                 const FeclOptions& options) {
  const Variable f(features, true);
  const LossValue value = kernels::fecl(f, teacher, classes, options);
  value.loss.backward();
  const std::vector<double> r = value.results.to_doubles();
  CHECK(r[0] == value.loss.value().data<double>()[0]);
  return {r[0], r[1], r[2], r[3], f.gradient().to_doubles()};
}

/// The definition with P x P matrices, in f64; the gradient of every pair goes to both of its patches. The
/// maxima, which the gradient takes for constants, are those of `of_maxima`.
Outcome plain_fecl(const Tensor& features, const Tensor& teacher, const Tensor& classes, const FeclOptions& o,
                   const Tensor& of_maxima) {
  const int64_t samples = features.shape().n, count = features.shape().voxels(), width = features.shape().c;
  const auto at = [&](int64_t i, int64_t j) { return static_cast<size_t>(i * count + j); };
  const double tiny = 1e-18;
  Outcome out;
  out.gradient.assign(static_cast<size_t>(features.elements()), 0.0);
  std::vector<double> own_gradient(out.gradient.size()), cross_gradient(out.gradient.size());
  for (int64_t b = 0; b < samples; ++b) {
    const double* f = features.data<double>() + b * count * width;
    const double* f_of_maxima = of_maxima.data<double>() + b * count * width;
    const double* t = teacher.data<double>() + b * count * width;
    const uint8_t* m = classes.data<uint8_t>() + b * count;
    const auto dot = [&](const double* u, const double* v) {
      double sum = 0;
      for (int64_t k = 0; k < width; ++k) sum += u[k] * v[k];
      return sum;
    };
    std::vector<double> s(static_cast<size_t>(count * count)), highest(static_cast<size_t>(count), -1e300);
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t j = 0; j < count; ++j) {
        s[at(i, j)] = i == j ? 0 : dot(f + i * width, f + j * width) / o.temperature;
        const double s_of_maxima =
            i == j ? 0 : dot(f_of_maxima + i * width, f_of_maxima + j * width) / o.temperature;
        highest[static_cast<size_t>(j)] = std::max(highest[static_cast<size_t>(j)], s_of_maxima);
      }
    }
    const auto add = [&](std::vector<double>& gradient, int64_t i, const double* direction, double factor) {
      for (int64_t k = 0; k < width; ++k)
        gradient[static_cast<size_t>((b * count + i) * width + k)] += factor * direction[k];
    };
    for (int64_t i = 0; i < count; ++i) {
      double n = 0, n_gradient = 0, row = 0;
      int64_t same = 0;
      const auto e = [&](int64_t j) { return std::exp(s[at(i, j)] - highest[static_cast<size_t>(j)]); };
      for (int64_t j = 0; j < count; ++j) {
        if (m[i] == m[j]) ++same;
        if (m[i] != m[j]) n += e(j);
      }
      const double divisor = static_cast<double>(same) - 1 + tiny;
      const double share = 1 / (divisor * static_cast<double>(samples * count));
      std::vector<double> by_similarity(static_cast<size_t>(count));
      for (int64_t j = 0; j < count; ++j) {
        if (i == j || m[i] != m[j]) continue;
        const double q = e(j) / (e(j) + n + tiny);
        row += std::pow(1 - q, o.focal) * -std::log(q + tiny);
        const double slope = o.focal * std::pow(1 - q, o.focal - 1) * std::log(q + tiny) -
                             std::pow(1 - q, o.focal) / (q + tiny);
        by_similarity[static_cast<size_t>(j)] = share * slope * q * (1 - q);
        n_gradient -= share * slope * q / (e(j) + n + tiny);
      }
      out.own += row * share;
      for (int64_t j = 0; j < count; ++j) {
        const double g = m[i] != m[j] ? n_gradient * e(j) : by_similarity[static_cast<size_t>(j)];
        add(own_gradient, i, f + j * width, g / o.temperature);
        add(own_gradient, j, f + i * width, g / o.temperature);
        const double x = dot(f + i * width, t + j * width);
        if (m[i] == m[j] || x <= o.threshold.now()) continue;
        out.cross -= std::log(1 - x + tiny);
        out.pairs += 1;
        add(cross_gradient, i, t + j * width, 1 / (1 - x + tiny));
      }
    }
  }
  if (out.pairs > 0) out.cross /= out.pairs;
  out.loss = out.own + o.cross * out.cross;
  for (size_t i = 0; i < out.gradient.size(); ++i)
    out.gradient[i] = own_gradient[i] + (out.pairs > 0 ? o.cross * cross_gradient[i] / out.pairs : 0);
  return out;
}

Outcome plain_fecl(const Tensor& features, const Tensor& teacher, const Tensor& classes,
                   const FeclOptions& o) {
  return plain_fecl(features, teacher, classes, o, features);
}

double sum_of_magnitudes(const std::vector<double>& values) {
  double total = 0;
  for (const double v : values) total += std::abs(v);
  return total;
}

/// Largest difference relative to the largest expected element.
double deviation(const std::vector<double>& found, const std::vector<double>& expected) {
  double largest = 0, scale = 0;
  REQUIRE(found.size() == expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    largest = std::max(largest, std::abs(found[i] - expected[i]));
    scale = std::max(scale, std::abs(expected[i]));
  }
  return largest / scale;
}

doctest::Approx near(double value, double relative) { return doctest::Approx(value).epsilon(relative); }

/// Tolerances for values, gradients.
void compare(const Outcome& found, const Outcome& expected, double values, double gradients) {
  CHECK(found.pairs == expected.pairs);
  CHECK(found.own == near(expected.own, values));
  CHECK(found.cross == near(expected.cross, values));
  CHECK(found.loss == near(expected.loss, values));
  CHECK(deviation(found.gradient, expected.gradient) < gradients);
}

}  // namespace

TEST_CASE("fecl: the published code's numbers") {
  const Shape shape = patches(2, 6, 4);
  const Tensor f = waves(shape, 1.3, 0.2), t = waves(shape, 1.1, 0.4);
  const Tensor m = classes_of(shape, {0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1});
  const double theta = 0.3 + 0.2 * std::exp(-5.0);
  const Outcome plain = run_fecl(f, {}, m, {.focal = 0, .cross = 0});
  CHECK(plain.loss == near(1.5120820125, 1e-10));
  CHECK(sum_of_magnitudes(plain.gradient) == near(5.0763040503, 1e-10));
  const Outcome focal = run_fecl(f, {}, m, {.cross = 0});
  CHECK(focal.loss == near(1.0790247033, 1e-10));
  CHECK(sum_of_magnitudes(focal.gradient) == near(5.1589109860, 1e-10));
  const Outcome both = run_fecl(f, t, m, {.threshold = theta});
  CHECK(both.loss == near(2.7596008981, 1e-10));
  CHECK(both.cross == near(1.6805761948, 1e-10));
  CHECK(both.pairs == 13);
  CHECK(sum_of_magnitudes(both.gradient) == near(18.8569980861, 1e-10));
}

TEST_CASE("fecl: whole matrices give the same, several strips or one, also in f32") {
  // 2,600 patches are more than one strip holds (1,613 rows).
  for (const Shape& shape : {patches(3, 70, 5), patches(1, 2600, 12)}) {
    for (const double focal : {0.0, 1.5, 2.0}) {
      if (focal == 1.5 && shape.w > 1000) continue;
      CAPTURE(shape.str());
      CAPTURE(focal);
      const Tensor f = random_directions(shape, 1), t = random_directions(shape, 2);
      const Tensor m = random_classes(shape, 3, 4);
      const FeclOptions options{.temperature = 0.4, .focal = focal, .cross = 0.7, .threshold = 0.35};
      const Outcome expected = plain_fecl(f, t, m, options);
      CHECK(expected.pairs > 10);
      compare(run_fecl(f, t, m, options), expected, 1e-12, 1e-11);
      const Outcome single = run_fecl(cast(f, DType::f32), cast(t, DType::f32), m, options);
      compare(single, expected, 2e-6, 2e-5);
    }
  }
}

TEST_CASE("fecl: gradient of raw features by central differences, the maxima held") {
  const Shape shape{2, 4, 2, 3, 2};
  const Tensor x = random_tensor(shape, 1), t = random_directions(shape, 2), m = random_classes(shape, 2, 4);
  const FeclOptions options{.threshold = 0.2};
  const Variable raw(x.clone(), true);
  kernels::fecl(unit_vectors(raw), t, m, options).loss.backward();
  const Tensor of_maxima = unit_vectors(raw).value();
  check_gradient("features", x, raw.gradient(), [&] {
    return plain_fecl(unit_vectors(Variable(x)).value(), t, m, options, of_maxima).loss;
  });
}

TEST_CASE("fecl: samples of one class, classes of one patch, no hard pair") {
  const Shape shape = patches(2, 5, 3);
  const Tensor f = random_directions(shape, 1), t = random_directions(shape, 2);
  const Outcome one_class = run_fecl(f, t, classes_of(shape, std::vector<int>(10, 1)), {});
  CHECK(one_class.loss == 0);
  CHECK(one_class.pairs == 0);
  for (const double g : one_class.gradient) CHECK(std::abs(g) < 1e-30);
  // In each sample one patch is alone in its class: its row is 0, not 0 / 0.
  const Tensor lonely = classes_of(shape, {0, 0, 0, 0, 1, 1, 0, 0, 0, 0});
  const FeclOptions options{.threshold = 0.999};
  const Outcome found = run_fecl(f, t, lonely, options);
  CHECK(found.pairs == 0);
  CHECK(found.cross == 0);
  compare(found, plain_fecl(f, t, lonely, options), 1e-12, 1e-12);
}

TEST_CASE("fecl: a teacher's vector that equals one of another class stays finite in f32") {
  const Shape shape = patches(1, 4, 2);
  Tensor f = Tensor::zeros(shape, DType::f32, {});
  for (int64_t i = 0; i < 4; ++i) f.data<float>()[2 * i] = 1.0f;
  const Outcome equal = run_fecl(f, f, classes_of(shape, {0, 1, 0, 1}), {});
  CHECK(equal.pairs == 8);
  CHECK(equal.cross == near(-std::log(1e-7), 1e-6));
  for (const double g : equal.gradient) CHECK(std::isfinite(g));
}

TEST_CASE("fecl: the number of threads does not show") {
  const Shape shape = patches(2, 300, 16);
  const Tensor f = cast(random_directions(shape, 1), DType::f32);
  const Tensor t = cast(random_directions(shape, 2), DType::f32), m = random_classes(shape, 2, 4);
  const int threads = thread_count();
  set_thread_count(1);
  const Outcome one = run_fecl(f, t, m, {});
  set_thread_count(3);
  const Outcome three = run_fecl(f, t, m, {});
  set_thread_count(threads);
  CHECK(one.loss == three.loss);
  CHECK(one.gradient == three.gradient);
}

TEST_CASE("unit vectors: values, gradients, a zero vector, bf16") {
  const Shape shape{2, 5, 1, 2, 3};
  const Tensor x = random_tensor(shape, 3);
  Tensor squares;
  const std::vector<double> y = kernels::unit_vectors(x, squares).to_doubles();
  for (int64_t row = 0; row < shape.rows(); ++row) {
    double square = 0;
    for (int64_t c = 0; c < 5; ++c) square += std::pow(y[static_cast<size_t>(row * 5 + c)], 2);
    CHECK(square == near(1, 1e-14));
  }
  check_op({x}, nullptr, [](const std::vector<Variable>& v) { return unit_vectors(v[0]); });
  const Tensor zero = Tensor::zeros({1, 3, 1, 1, 1}, DType::f32, {});
  for (const double v : kernels::unit_vectors(zero, squares).to_doubles()) CHECK(v == 0);
  const Variable half(cast(x, DType::bf16), true);
  CHECK(unit_vectors(half).value().dtype() == DType::f32);
  CHECK(deviation(unit_vectors(half).value().to_doubles(), y) < 5e-3);
}

TEST_CASE("fecl: CUDA equals the CPU, several strips") {
  if (cuda_device_count() == 0) {
    MESSAGE("skipped: " << cuda_unavailable_reason());
    return;
  }
  const Shape shape = patches(2, 2600, 256);
  const Tensor x = cast(random_tensor(shape, 1), DType::f32), t = cast(random_tensor(shape, 2), DType::f32);
  const Tensor m = random_classes(shape, 2, 4);
  std::vector<std::vector<double>> results, gradients;
  for (const Device device : {Device{}, Device{DeviceKind::cuda, 0}}) {
    const Variable raw(x.to(device), true);
    const Tensor target = unit_vectors(Variable(t.to(device))).value();
    // All pairs of different classes count: none lies so near the threshold that rounding decides.
    const LossValue value = kernels::fecl(unit_vectors(raw), target, m.to(device), {.threshold = -0.9});
    value.loss.backward();
    results.push_back(value.results.to_doubles());
    gradients.push_back(raw.gradient().to_doubles());
  }
  CHECK(deviation(results[1], results[0]) < 1e-6);
  CHECK(deviation(gradients[1], gradients[0]) < 1e-4);
}
