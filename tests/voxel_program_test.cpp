// Voxel programs: sums and gradients of programs of different shapes, against plain loops and central
// differences.

#include "kernels/voxel_program.hpp"

#include <doctest/doctest.h>

#include <random>

#include "engine/arithmetic.hpp"
#include "engine/parallel.hpp"
#include "tests/program_check.hpp"

using namespace semivox;

namespace {

/// Cross-entropy, pooled over all samples.
struct CrossEntropy {
  const uint8_t* labels;  // (N, V)
  int64_t voxels;

  static constexpr int kResults = 1;
  static constexpr int sums(int) { return 1; }

  template <class S>
  void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    S p[voxel::kMaxChannels];
    t[0] = softmax(z, channels, p) - z[labels[sample * voxels + v]];
  }
  template <class S>
  void results(const SampleSums<S>& sums, int, S* results) const {
    results[0] = sums.total(0) / S(static_cast<double>(sums.samples * voxels));
  }
};

/// Mean over the samples of 1 - Dice of each class, with weights that tell samples and classes apart.
struct SampleDice {
  const uint8_t* labels;  // (N, V)
  int64_t voxels;

  static constexpr int kResults = 2;
  static constexpr int sums(int channels) { return 2 * channels; }

  template <class S>
  void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    S p[voxel::kMaxChannels];
    softmax(z, channels, p);
    for (int c = 0; c < channels; ++c) {
      const double g = labels[sample * voxels + v] == c ? 1 : 0;
      t[2 * c] = p[c] * S(g);
      t[2 * c + 1] = square(p[c]) + S(g);
    }
  }
  template <class S>
  void results(const SampleSums<S>& sums, int channels, S* results) const {
    results[0] = S(0);
    for (int64_t n = 0; n < sums.samples; ++n) {
      for (int c = 0; c < channels; ++c) {
        const S dice = (S(2) * sums(n, 2 * c) + S(1e-5)) / (sums(n, 2 * c + 1) + S(1e-5));
        results[0] = results[0] + S(static_cast<double>(1 + n + 3 * c)) * (S(1) - dice);
      }
    }
    results[1] = sums.total(0, 0, 1);
  }
};

/// Of two networks' logits: exp(-KL) * (squared distance) + KL, KL from one softmax to the other. All inputs
/// are differentiable.
struct TwoNetworks {
  static constexpr int kResults = 1;
  static constexpr int sums(int) { return 2; }

  template <class S>
  void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    const int classes = channels / 2;
    S p[voxel::kMaxChannels], q[voxel::kMaxChannels];
    const S log_p = softmax(z, classes, p), log_q = softmax(z + classes, classes, q);
    S kl = S(0), distance = S(0);
    for (int c = 0; c < classes; ++c) {
      kl = kl + q[c] * ((z[classes + c] - log_q) - (z[c] - log_p));
      distance = distance + square(p[c] - q[c]);
    }
    t[0] = exponential(-kl) * distance + kl;
    if ((sample + v) % 3 == 0) t[1] = square(z[0]);  // a mask, by sample and voxel
  }
  template <class S>
  void results(const SampleSums<S>& sums, int, S* results) const {
    results[0] = sums.total(0) * S(0.1) + logarithm(sums.total(1) + S(1));
  }
};

Tensor random_logits(Shape shape, uint32_t seed) {
  Tensor t = Tensor::empty(shape, DType::f64, {});
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(0, 2);
  for (int64_t i = 0; i < t.elements(); ++i) t.data<double>()[i] = static_cast<float>(normal(generator));
  return t;
}

Tensor random_labels(Shape shape, int64_t classes, uint32_t seed) {
  Tensor t = Tensor::empty(shape.with_channels(1), DType::u8, {});
  std::mt19937 generator(seed);
  for (int64_t i = 0; i < t.elements(); ++i)
    t.data<uint8_t>()[i] = static_cast<uint8_t>(generator() % static_cast<uint32_t>(classes));
  return t;
}

/// Softmax of the definition, of one voxel.
std::vector<double> probabilities(const Tensor& logits, int64_t row) {
  const int64_t channels = logits.shape().c;
  std::vector<double> p(static_cast<size_t>(channels));
  double total = 0;
  for (int64_t c = 0; c < channels; ++c)
    total += p[static_cast<size_t>(c)] = std::exp(logits.data<double>()[row * channels + c]);
  for (double& value : p) value /= total;
  return p;
}

double loop_cross_entropy(const Tensor& logits, const Tensor& labels) {
  double sum = 0;
  for (int64_t row = 0; row < logits.shape().rows(); ++row)
    sum -= std::log(probabilities(logits, row)[labels.data<uint8_t>()[row]]);
  return sum / static_cast<double>(logits.shape().rows());
}

double loop_sample_dice(const Tensor& logits, const Tensor& labels) {
  const Shape s = logits.shape();
  double loss = 0;
  for (int64_t n = 0; n < s.n; ++n) {
    for (int64_t c = 0; c < s.c; ++c) {
      double intersection = 0, both = 0;
      for (int64_t v = 0; v < s.voxels(); ++v) {
        const int64_t row = n * s.voxels() + v;
        const double p = probabilities(logits, row)[static_cast<size_t>(c)];
        const double g = labels.data<uint8_t>()[row] == c ? 1 : 0;
        intersection += p * g;
        both += p * p + g;
      }
      loss += static_cast<double>(1 + n + 3 * c) * (1 - (2 * intersection + 1e-5) / (both + 1e-5));
    }
  }
  return loss;
}

double loop_two_networks(const Tensor& a, const Tensor& b) {
  const Shape s = a.shape();
  double first = 0, second = 0;
  for (int64_t row = 0; row < s.rows(); ++row) {
    const std::vector<double> p = probabilities(a, row), q = probabilities(b, row);
    double kl = 0, distance = 0;
    for (size_t c = 0; c < p.size(); ++c) {
      kl += q[c] * std::log(q[c] / p[c]);
      distance += (p[c] - q[c]) * (p[c] - q[c]);
    }
    first += std::exp(-kl) * distance + kl;
    const int64_t n = row / s.voxels(), v = row % s.voxels();
    if ((n + v) % 3 == 0) second += a.data<double>()[row * s.c] * a.data<double>()[row * s.c];
  }
  return 0.1 * first + std::log(second + 1);
}

template <class Program>
double loss_of(const Program& program, const std::vector<Tensor>& inputs, std::vector<Tensor> reads) {
  std::vector<Variable> variables;
  for (const Tensor& input : inputs) variables.emplace_back(input);
  return evaluate("test", program, variables, std::move(reads)).loss.value().template data<double>()[0];
}

const Shape kShapes[] = {{2, 1, 3, 1, 5}, {1, 1, 1, 1, 1}, {3, 1, 2, 3, 2}};

}  // namespace

TEST_CASE("losses equal plain loops, gradients central differences, for any number of channels") {
  for (const int64_t channels : {1, 2, 3, 4, 7, 16}) {
    for (const Shape& shape : kShapes) {
      INFO(channels, " channels on ", shape.str());
      const Tensor logits = random_logits(shape.with_channels(channels), 1);
      const Tensor labels = random_labels(shape, channels, 2);
      const CrossEntropy ce{labels.data<uint8_t>(), shape.voxels()};
      CHECK(loss_of(ce, {logits}, {labels}) ==
            doctest::Approx(loop_cross_entropy(logits, labels)).epsilon(1e-13));
      testing::check_program_gradient(ce, {logits}, {labels});
      const SampleDice dice{labels.data<uint8_t>(), shape.voxels()};
      CHECK(loss_of(dice, {logits}, {labels}) ==
            doctest::Approx(loop_sample_dice(logits, labels)).epsilon(1e-13));
      testing::check_program_gradient(dice, {logits}, {labels});
    }
  }
}

TEST_CASE("several inputs are one array of channels, and each gets its gradient") {
  for (const int64_t classes : {1, 2, 3, 7}) {
    for (const Shape& shape : kShapes) {
      INFO(classes, " classes on ", shape.str());
      const Tensor a = random_logits(shape.with_channels(classes), 3);
      const Tensor b = random_logits(shape.with_channels(classes), 4);
      CHECK(loss_of(TwoNetworks{}, {a, b}, {}) == doctest::Approx(loop_two_networks(a, b)).epsilon(1e-12));
      testing::check_program_gradient(TwoNetworks{}, {a, b}, {});
    }
  }
}

TEST_CASE("inputs of different numbers of channels join in order") {
  const Shape shape{2, 1, 2, 1, 3};
  const Tensor all = random_logits(shape.with_channels(6), 5);
  Tensor parts[3] = {Tensor::empty(shape.with_channels(1), DType::f64, {}),
                     Tensor::empty(shape.with_channels(3), DType::f64, {}),
                     Tensor::empty(shape.with_channels(2), DType::f64, {})};
  for (int64_t row = 0; row < shape.rows(); ++row) {
    const double* z = all.data<double>() + row * 6;
    parts[0].data<double>()[row] = z[0];
    for (int c = 0; c < 3; ++c) parts[1].data<double>()[row * 3 + c] = z[1 + c];
    for (int c = 0; c < 2; ++c) parts[2].data<double>()[row * 2 + c] = z[4 + c];
  }
  CHECK(loss_of(TwoNetworks{}, {parts[0], parts[1], parts[2]}, {}) == loss_of(TwoNetworks{}, {all}, {}));
  testing::check_program_gradient(TwoNetworks{}, {parts[0], parts[1], parts[2]}, {});
}

TEST_CASE("an input that needs no gradient gets none, and the others the same") {
  const Shape shape{2, 3, 2, 1, 3};
  const Tensor a = random_logits(shape, 3), b = random_logits(shape, 4);
  const Variable both_a(a, true), both_b(b, true), frozen_a(a), only_b(b, true);
  evaluate("test", TwoNetworks{}, {both_a, both_b}, {}).loss.backward();
  evaluate("test", TwoNetworks{}, {frozen_a, only_b}, {}).loss.backward();
  CHECK_FALSE(frozen_a.gradient().defined());
  CHECK(only_b.gradient().to_doubles() == both_b.gradient().to_doubles());
  CHECK_FALSE(evaluate("test", TwoNetworks{}, {frozen_a, frozen_a}, {}).loss.needs_gradient());
}

TEST_CASE("f32 agrees with f64 for several inputs, also when one needs no gradient") {
  for (const int64_t classes : {1, 2}) {     // 2 and 4 channels in all, which the CPU computes in lanes
    const Shape shape{2, classes, 3, 7, 5};  // 105 voxels: three times as many as lanes, and some more
    const Tensor a = random_logits(shape, 3), b = random_logits(shape, 4);
    for (const bool frozen : {false, true}) {
      const auto gradients = [&](DType dtype) {
        const Variable first(cast(a, dtype), !frozen), second(cast(b, dtype), true);
        evaluate("test", TwoNetworks{}, {first, second}, {}).loss.backward();
        CHECK(first.gradient().defined() == !frozen);
        std::vector<double> all = second.gradient().to_doubles();
        if (frozen) return all;
        for (const double value : first.gradient().to_doubles()) all.push_back(value);
        return all;
      };
      const std::vector<double> found = gradients(DType::f32), exact = gradients(DType::f64);
      REQUIRE(found.size() == exact.size());
      double largest = 0, error = 0;
      for (size_t i = 0; i < exact.size(); ++i) {
        largest = std::max(largest, std::abs(exact[i]));
        error = std::max(error, std::abs(found[i] - exact[i]));
      }
      CHECK(error <= 1e-6 * largest);  // with one class the second has a gradient of zero
    }
  }
}

TEST_CASE("the loss's own upstream gradient scales the logits' gradient") {
  const Shape shape{2, 2, 2, 1, 3};
  const Tensor labels = random_labels(shape, 2, 2);
  const SampleDice program{labels.data<uint8_t>(), shape.voxels()};
  const Variable once(random_logits(shape, 1), true), scaled(random_logits(shape, 1), true);
  evaluate("test", program, {once}, {labels}).loss.backward();
  (4.0 * evaluate("test", program, {scaled}, {labels}).loss).backward();
  std::vector<double> expected = once.gradient().to_doubles();
  for (double& g : expected) g *= 4;
  CHECK(scaled.gradient().to_doubles() == expected);
}

TEST_CASE("only results[0] is differentiated, the others are reported") {
  const Shape shape{2, 3, 2, 1, 3};
  const Tensor logits = random_logits(shape, 1), labels = random_labels(shape, 3, 2);
  const LossValue value =
      evaluate("test", SampleDice{labels.data<uint8_t>(), shape.voxels()}, {Variable(logits)}, {labels});
  double sum = 0;
  for (int64_t v = 0; v < shape.voxels(); ++v)
    if (labels.data<uint8_t>()[v] == 0) sum += probabilities(logits, v)[0];
  CHECK(value.results.elements() == 2);
  CHECK(value.results.data<double>()[1] == doctest::Approx(sum).epsilon(1e-13));
}

TEST_CASE("what a program reads lives until its gradient is taken") {
  const Shape shape{1, 2, 1, 1, 4};
  Tensor labels = random_labels(shape, 2, 2);
  const std::vector<double> expected = [&] {
    const Variable x(random_logits(shape, 1), true);
    evaluate("test", CrossEntropy{labels.data<uint8_t>(), 4}, {x}, {labels}).loss.backward();
    return x.gradient().to_doubles();
  }();
  const Variable x(random_logits(shape, 1), true);
  const Variable loss = evaluate("test", CrossEntropy{labels.data<uint8_t>(), 4}, {x}, {labels}).loss;
  labels = Tensor();
  Tensor other = Tensor::zeros({1, 4, 1, 1, 1}, DType::u8, {});  // would take the block if it were free
  for (int i = 0; i < 4; ++i) other.data<uint8_t>()[i] = 1;
  loss.backward();
  CHECK(x.gradient().to_doubles() == expected);
}

TEST_CASE("the number of threads does not change a bit; f32 agrees with f64") {
  const int threads = thread_count();
  for (const int64_t channels : {2, 3}) {
    const Shape shape{3, channels, 19, 23, 29};  // more than one block of voxels, the last one shorter
    const Tensor logits = random_logits(shape, 6), labels = random_labels(shape, channels, 7);
    const SampleDice program{labels.data<uint8_t>(), shape.voxels()};
    const auto run = [&](DType dtype, int count) {
      set_thread_count(count);
      const Variable x(cast(logits, dtype), true);
      const LossValue value = evaluate("test", program, {x}, {labels});
      value.loss.backward();
      set_thread_count(threads);
      std::vector<double> all = x.gradient().to_doubles();
      all.push_back(value.loss.value().data<double>()[0]);
      return all;
    };
    const std::vector<double> one = run(DType::f32, 1), exact = run(DType::f64, 1);
    CHECK(one == run(DType::f32, 3));
    CHECK(exact == run(DType::f64, 3));
    CHECK(exact.back() == doctest::Approx(loop_sample_dice(logits, labels)).epsilon(1e-12));
    CHECK(one.back() == doctest::Approx(exact.back()).epsilon(1e-7));
    double largest = 0, error = 0;
    for (size_t i = 0; i + 1 < exact.size(); ++i) {
      largest = std::max(largest, std::abs(exact[i]));
      error = std::max(error, std::abs(one[i] - exact[i]));
    }
    CHECK(error / largest < 1e-6);
  }
}

TEST_CASE("softmax of large logits neither overflows nor loses the loss") {
  Tensor logits = Tensor::empty({1, 2, 1, 1, 2}, DType::f32, {});
  const float values[] = {500, -500, -500, 500};
  for (int i = 0; i < 4; ++i) logits.data<float>()[i] = values[i];
  const Tensor labels = Tensor::zeros({1, 1, 1, 1, 2}, DType::u8, {});
  const Variable x(logits, true);
  const LossValue value = evaluate("test", CrossEntropy{labels.data<uint8_t>(), 2}, {x}, {labels});
  value.loss.backward();
  CHECK(value.loss.value().data<double>()[0] == 500);
  CHECK(x.gradient().to_doubles() == std::vector<double>{0, 0, -0.5, 0.5});
}

TEST_CASE("dual numbers carry every rule of differentiation") {
  using D = Dual<double, 2>;
  const double a = 0.7, b = 1.9;
  const auto formula = [](auto x, auto y) {
    auto z = 2.0 * x - y / x + (y - 1.0) * (3.0 - x) / 4.0 + exponential(-x) * logarithm(y) + square(x - y);
    z += x;
    return z + 1.0 - x / (y * y) + (0.5 + y);
  };
  const D value = formula(D::variable(a, 0), D::variable(b, 1));
  CHECK(value.v == doctest::Approx(formula(a, b)).epsilon(1e-15));
  const double h = 1e-5;
  CHECK(value.d[0] == doctest::Approx((formula(a + h, b) - formula(a - h, b)) / (2 * h)).epsilon(1e-9));
  CHECK(value.d[1] == doctest::Approx((formula(a, b + h) - formula(a, b - h)) / (2 * h)).epsilon(1e-9));
}

TEST_CASE("inputs that do not fit are caught") {
  const Tensor labels = random_labels({1, 1, 1, 1, 4}, 2, 2);
  const auto call = [&](const std::vector<Tensor>& inputs) { loss_of(TwoNetworks{}, inputs, {}); };
  CHECK_THROWS_AS(call({}), InternalError);
  CHECK_THROWS_AS(call({random_logits({1, 17, 1, 1, 4}, 1)}), UsageError);
  CHECK_THROWS_AS(call({random_logits({1, 2, 1, 1, 4}, 1), random_logits({1, 2, 1, 4, 1}, 1)}),
                  InternalError);
  CHECK_THROWS_AS(call({cast(random_logits({1, 2, 1, 1, 4}, 1), DType::bf16)}), InternalError);
}
