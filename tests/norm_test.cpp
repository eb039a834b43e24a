// The fused normalisation block against an oracle in plain f64 loops: every norm, activation, skip, dropout
// and mode, forward and backward.

#include <doctest/doctest.h>

#include <random>
#include <vector>

#include "engine/arithmetic.hpp"
#include "engine/parallel.hpp"
#include "kernels/norm.hpp"
#include "tests/gradients.hpp"

using namespace semivox;
using namespace semivox::kernels;

namespace {

struct Setting {
  Norm norm = Norm::none;
  double slope = 0;  // of the activation
  bool prelu = false;
  Skip skip = Skip::none;
  double dropout = 0;
  bool training = true;
  int64_t groups = 2;
};

const char* name_of_norm(Norm norm) {
  constexpr const char* names[] = {"none", "batch", "instance", "group"};
  return names[static_cast<int>(norm)];
}

std::string describe(const Setting& s) {
  constexpr const char* skips[] = {"no skip", "skip after", "skip before"};
  return text(name_of_norm(s.norm), ", ", s.prelu ? "prelu" : text("slope ", s.slope), ", ",
              skips[static_cast<int>(s.skip)], ", dropout ", s.dropout, s.training ? ", train" : ", eval");
}

std::vector<Setting> all_settings(double dropout = 0.4) {
  std::vector<Setting> settings;
  for (const Norm norm : {Norm::none, Norm::batch, Norm::instance, Norm::group})
    for (const double slope : {0.0, 1.0, 0.01, -1.0})  // -1 stands for PReLU
      for (const Skip skip : {Skip::none, Skip::after, Skip::before})
        for (const double drop : {0.0, dropout})
          for (const bool training : {true, false})
            settings.push_back({norm, slope < 0 ? 0 : slope, slope < 0, skip, drop, training});
  return settings;
}

const RandomStream kRandom{42, 7, 3};

void assign(const Tensor& t, const std::vector<double>& values) {
  dispatch_float(t.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (size_t i = 0; i < values.size(); ++i)
      t.data<T>()[i] = static_cast<T>(static_cast<compute_t<T>>(values[i]));
  });
}

std::vector<double> normals(int64_t count, uint32_t seed, double mean = 0, double deviation = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(mean, deviation);
  std::vector<double> values(static_cast<size_t>(count));
  for (double& v : values) v = static_cast<float>(bf16(static_cast<float>(normal(generator))));
  return values;
}

/// The block under test with its parameters and data in one dtype. All values are exact in bf16, so every
/// dtype starts from the same numbers.
struct Problem {
  Setting setting;
  Shape shape;
  ParameterSet set;
  NormBlock block;
  NormCall call;
  Tensor y, skip, weights;  // the loss is the sum of weights * out
  NormSaved saved;

  Problem(const Setting& s, Shape size, DType dtype) : setting(s), shape(size) {
    const std::vector<int64_t> dims{shape.c};
    const Initializer zero = Initializer::constant(0);
    block.norm = s.norm;
    block.groups = s.groups;
    block.slope = s.slope;
    block.conv_bias = &set.declare("bias", dims, zero);
    if (s.norm == Norm::batch || s.norm == Norm::group) {
      block.gamma = &set.declare("gamma", dims, zero);
      block.beta = &set.declare("beta", dims, zero);
    }
    if (s.norm == Norm::batch) {
      block.running_mean = &set.declare_buffer("running_mean", dims, 0);
      block.running_variance = &set.declare_buffer("running_var", dims, 1);
      block.batches = &set.declare_buffer("num_batches_tracked", {}, 0, true);
    }
    if (s.prelu) block.prelu_slope = &set.declare("slope", dims, zero);
    set.allocate(dtype == DType::f64 ? DType::f64 : DType::f32, {}, true);
    const auto fill_parameter = [&](Parameter* p, uint32_t seed, double mean, double deviation) {
      if (p != nullptr) assign(p->value, normals(shape.c, seed, mean, deviation));
    };
    fill_parameter(block.gamma, 1, 1, 0.4);
    fill_parameter(block.beta, 2, 0, 0.5);
    fill_parameter(block.running_mean, 3, 0.5, 0.5);
    if (block.running_variance != nullptr) {
      std::vector<double> variance = normals(shape.c, 4, 0, 1);
      for (double& v : variance) v = static_cast<float>(bf16(static_cast<float>(0.25 + v * v)));
      assign(block.running_variance->value, variance);
    }
    fill_parameter(block.prelu_slope, 5, 0.25, 0.3);
    call.batch_statistics = s.training;
    call.dropout = s.dropout;
    call.random = kRandom;
    call.skip_mode = s.skip;
    y = Tensor::empty(shape, dtype, {});
    weights = Tensor::empty(shape, dtype, {});
    assign(y, normals(shape.elements(), 6, 0.7, 1.5));
    assign(weights, normals(shape.elements(), 7));
    if (s.skip != Skip::none) {
      skip = Tensor::empty(shape, dtype, {});
      assign(skip, normals(shape.elements(), 8));
    }
  }

  Tensor forward() { return norm_forward(block, call, y, skip, saved); }

  /// d_y; d_skip where the block makes it.
  Tensor backward(Tensor* d_skip) {
    set.zero_gradients();
    const Tensor second_owner = weights;  // so that they are not overwritten
    return norm_backward(block, call, y, setting.skip == Skip::before ? skip : Tensor(), saved, weights,
                         d_skip);
  }
};

/// Mean and biased variance that element (n, c) is normalised with, from the definition.
void oracle_moments(const Problem& p, const std::vector<double>& y, int64_t n, int64_t c, double& mean,
                    double& variance) {
  const Shape s = p.shape;
  const Norm norm = p.setting.norm;
  const int64_t width = s.c / p.setting.groups;
  double count = 0, sum = 0;
  const auto each = [&](const auto& visit) {
    for (int64_t i = 0; i < s.n; ++i)
      for (int64_t v = 0; v < s.voxels(); ++v)
        for (int64_t k = 0; k < s.c; ++k) {
          const bool with = norm == Norm::batch   ? k == c
                            : norm == Norm::group ? i == n && k / width == c / width
                                                  : i == n && k == c;
          if (with) visit(y[static_cast<size_t>((i * s.voxels() + v) * s.c + k)]);
        }
  };
  each([&](double value) {
    sum += value;
    count += 1;
  });
  mean = sum / count;
  double square = 0;
  each([&](double value) { square += (value - mean) * (value - mean); });
  variance = square / count;
}

/// out of the definition: dropout(act(norm(y) [+ skip])) [+ skip], step by step, none of it fused.
std::vector<double> oracle_forward(const Problem& p) {
  const Shape s = p.shape;
  const std::vector<double> y = p.y.to_doubles();
  const std::vector<double> skip = p.skip.defined() ? p.skip.to_doubles() : std::vector<double>(y.size());
  const auto element = [](const Parameter* parameter, int64_t c, double otherwise) {
    return parameter != nullptr ? parameter->value.to_doubles()[static_cast<size_t>(c)] : otherwise;
  };
  std::vector<double> out(y.size());
  for (int64_t n = 0; n < s.n; ++n) {
    for (int64_t c = 0; c < s.c; ++c) {
      double mean = 0, deviation = 1;
      if (p.setting.norm == Norm::batch && !p.setting.training) {
        mean = element(p.block.running_mean, c, 0);
        deviation = std::sqrt(element(p.block.running_variance, c, 1) + p.block.epsilon);
      } else if (p.setting.norm != Norm::none) {
        double variance;
        oracle_moments(p, y, n, c, mean, variance);
        deviation = std::sqrt(variance + p.block.epsilon);
      }
      const double gamma = element(p.block.gamma, c, 1), beta = element(p.block.beta, c, 0);
      const double slope = element(p.block.prelu_slope, c, p.setting.slope);
      const bool dropped =
          p.setting.dropout > 0 && kRandom.uniform(static_cast<uint64_t>(n * s.c + c)) < p.setting.dropout;
      const double keep = dropped ? 0 : 1 / (1 - p.setting.dropout);
      for (int64_t v = 0; v < s.voxels(); ++v) {
        const size_t i = static_cast<size_t>((n * s.voxels() + v) * s.c + c);
        double z = gamma * (y[i] - mean) / deviation + beta;
        if (p.setting.skip == Skip::before) z += skip[i];
        double a = (z > 0 ? z : slope * z) * keep;
        if (p.setting.skip == Skip::after) a += skip[i];
        out[i] = a;
      }
    }
  }
  return out;
}

double oracle_loss(const Problem& p) {
  const std::vector<double> out = oracle_forward(p);
  double loss = 0;
  for (size_t i = 0; i < out.size(); ++i) loss += p.weights.data<double>()[i] * out[i];
  return loss;
}

/// Largest |a - b| relative to the largest |b|, or to `floor` where all of b is smaller.
double difference(const std::vector<double>& a, const std::vector<double>& b, double floor = 1e-3) {
  REQUIRE(a.size() == b.size());
  double largest = 0, scale = floor;
  for (size_t i = 0; i < a.size(); ++i) {
    const double error = std::abs(a[i] - b[i]);
    if (!(error <= largest)) largest = error;
    scale = std::max(scale, std::abs(b[i]));
  }
  return largest / scale;
}

struct Everything {
  std::vector<double> out, d_y, d_skip, gradients, buffers;
};

Everything run_all(const Setting& setting, Shape shape, DType dtype) {
  Problem p(setting, shape, dtype);
  Everything e;
  e.out = p.forward().to_doubles();
  Tensor d_skip;
  e.d_y = p.backward(&d_skip).to_doubles();
  if (d_skip.defined()) e.d_skip = d_skip.to_doubles();
  e.gradients = p.set.gradients().to_doubles();
  e.buffers = p.set.buffer_values().to_doubles();
  return e;
}

}  // namespace

TEST_CASE("forward equals the definition") {
  const testing::OneThread one_thread;
  for (const Shape shape : {Shape{2, 4, 2, 1, 3}, Shape{1, 2, 1, 1, 2}, Shape{3, 6, 2, 3, 2}}) {
    for (const Setting& setting : all_settings()) {
      INFO(describe(setting), " on ", shape.str());
      Problem p(setting, shape, DType::f64);
      const std::vector<double> expected = oracle_forward(p);  // before running statistics change
      CHECK(difference(p.forward().to_doubles(), expected) < 1e-13);
    }
  }
}

TEST_CASE("backward equals central differences of the definition") {
  const testing::OneThread one_thread;
  for (const Setting& setting : all_settings()) {
    INFO(describe(setting));
    Problem p(setting, {2, 4, 2, 1, 3}, DType::f64);
    const auto loss = [&] { return oracle_loss(p); };
    Tensor running;
    if (setting.norm == Norm::batch) running = p.set.buffer_values().clone();
    p.forward();
    if (running.defined()) p.set.buffer_values().copy_from(running);
    Tensor d_skip;
    const Tensor d_y = p.backward(&d_skip);
    testing::check_gradient("y", p.y, d_y, loss);
    if (setting.skip == Skip::before) testing::check_gradient("skip", p.skip, d_skip, loss);
    for (Parameter* parameter : {p.block.gamma, p.block.beta, p.block.prelu_slope}) {
      if (parameter != nullptr)
        testing::check_gradient(parameter->name, parameter->value, parameter->gradient, loss);
    }
    // The convolution's bias is the same number added to every y of its channel.
    Tensor bias = Tensor::zeros({1, 4, 1, 1, 1}, DType::f64, {});
    const Tensor y = p.y.clone();
    testing::check_gradient("conv bias", bias, p.block.conv_bias->gradient, [&] {
      for (int64_t i = 0; i < y.elements(); ++i)
        p.y.data<double>()[i] = y.data<double>()[i] + bias.data<double>()[i % 4];
      return oracle_loss(p);
    });
  }
}

TEST_CASE("gradients of parameters are added to what is there") {
  Problem p({Norm::batch, 0, true}, {2, 4, 2, 1, 3}, DType::f64);
  p.forward();
  Tensor none;
  p.backward(&none);
  const std::vector<double> once = p.set.gradients().to_doubles();
  norm_backward(p.block, p.call, p.y, {}, p.saved, p.weights.clone(), &none);
  std::vector<double> twice = p.set.gradients().to_doubles();
  for (double& g : twice) g /= 2;
  CHECK(twice == once);
}

TEST_CASE("a parameter set without gradients can be passed through") {
  Problem p({Norm::batch, 0, true}, {2, 4, 2, 1, 3}, DType::f64);
  p.forward();
  Tensor none;
  const std::vector<double> expected = p.backward(&none).to_doubles();
  for (Parameter& parameter : p.set.parameters()) parameter.gradient = Tensor();
  CHECK(norm_backward(p.block, p.call, p.y, {}, p.saved, p.weights, &none).to_doubles() == expected);
}

TEST_CASE("backward overwrites an upstream gradient that nobody else owns, and no other") {
  const Setting setting{Norm::instance, 0, false, Skip::before};
  Problem p(setting, {2, 4, 2, 1, 3}, DType::f64);
  p.forward();
  Tensor d_skip;
  const std::vector<double> weights = p.weights.to_doubles();
  const std::vector<double> expected = p.backward(&d_skip).to_doubles();
  CHECK(p.weights.to_doubles() == weights);
  const std::vector<double> expected_skip = d_skip.to_doubles();
  const void* const memory = p.weights.raw();
  const Tensor d_y = norm_backward(p.block, p.call, p.y, p.skip, p.saved, p.weights, &d_skip);
  CHECK(d_y.raw() == memory);
  CHECK(d_y.to_doubles() == expected);
  CHECK(d_skip.to_doubles() == expected_skip);
}

TEST_CASE("f32 and bf16 agree with f64") {
  const testing::OneThread one_thread;
  // Relative to the largest element: f32 keeps 24 bits, bf16 stores results with 8.
  double f32_out = 0, f32_gradient = 0, bf16_out = 0, bf16_gradient = 0, f32_sums = 0, bf16_sums = 0;
  // With the factor 2 of dropout 0.5, values that cancel in front of the activation cancel in every dtype.
  for (const Setting& setting : all_settings(0.5)) {
    INFO(describe(setting));
    const Shape shape{2, 4, 9, 11, 13};
    const Everything exact = run_all(setting, shape, DType::f64);
    for (const DType dtype : {DType::f32, DType::bf16}) {
      INFO(std::string(name_of(dtype)));
      const bool single = dtype == DType::f32;
      const Everything found = run_all(setting, shape, dtype);
      const double out = difference(found.out, exact.out), gradient = difference(found.d_y, exact.d_y);
      const double sums = difference(found.gradients, exact.gradients, 1);  // the bias: 0
      CHECK(out < (single ? 2.5e-7 : 4e-3));
      CHECK(gradient < (single ? 2.5e-7 : 4e-3));
      CHECK(sums < 5e-7);  // sums are taken in f64 from values in float
      if (!exact.d_skip.empty()) CHECK(difference(found.d_skip, exact.d_skip) < (single ? 2.5e-7 : 4e-3));
      CHECK(difference(found.buffers, exact.buffers) < 2e-7);
      (single ? f32_out : bf16_out) = std::max(single ? f32_out : bf16_out, out);
      (single ? f32_gradient : bf16_gradient) = std::max(single ? f32_gradient : bf16_gradient, gradient);
      (single ? f32_sums : bf16_sums) = std::max(single ? f32_sums : bf16_sums, sums);
    }
  }
  MESSAGE("largest differences from f64: f32 out ", f32_out, ", d_y ", f32_gradient, ", sums ", f32_sums,
          "; bf16 out ", bf16_out, ", d_y ", bf16_gradient, ", sums ", bf16_sums);
}

TEST_CASE("the number of threads does not change a bit") {
  const int threads = thread_count();
  for (const Norm norm : {Norm::none, Norm::batch, Norm::instance, Norm::group}) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
      INFO(std::string(name_of_norm(norm)), " in ", std::string(name_of(dtype)));
      const Setting setting{norm, 0, true, Skip::before, 0.4};
      const Shape shape{3, 6, 11, 13, 17};  // more than one block of rows, the last one shorter
      set_thread_count(1);
      const Everything one = run_all(setting, shape, dtype);
      set_thread_count(3);
      const Everything three = run_all(setting, shape, dtype);
      set_thread_count(threads);
      CHECK(one.out == three.out);
      CHECK(one.d_y == three.d_y);
      CHECK(one.d_skip == three.d_skip);
      CHECK(one.gradients == three.gradients);
      CHECK(one.buffers == three.buffers);
    }
  }
}

TEST_CASE("running statistics follow PyTorch: biased for the output, unbiased in the average") {
  Problem p({Norm::batch}, {2, 1, 1, 1, 2}, DType::f64);
  assign(p.y, {1, 2, 3, 6});  // mean 3, biased variance 3.5, unbiased 14/3
  assign(p.block.running_mean->value, {10});
  assign(p.block.running_variance->value, {20});
  p.forward();
  CHECK(p.block.running_mean->value.to_doubles()[0] == doctest::Approx(9.3).epsilon(1e-14));
  CHECK(p.block.running_variance->value.to_doubles()[0] == doctest::Approx(18 + 1.4 / 3).epsilon(1e-14));
  CHECK(p.block.batches->value.to_doubles()[0] == 1);
  p.forward();
  CHECK(p.block.running_mean->value.to_doubles()[0] == doctest::Approx(8.67).epsilon(1e-14));
  CHECK(p.block.batches->value.to_doubles()[0] == 2);
  p.call.batch_statistics = false;
  const std::vector<double> before = p.set.buffer_values().to_doubles();
  p.forward();
  CHECK(p.set.buffer_values().to_doubles() == before);
}

TEST_CASE("a constant channel, also a large one, is finite and gives the shift") {
  for (const Norm norm : {Norm::batch, Norm::instance}) {
    for (const DType dtype : {DType::f32, DType::f64}) {
      Problem p({norm, 1}, {2, 2, 1, 2, 2}, dtype);
      assign(p.y, std::vector<double>(16, 4097.0));
      const std::vector<double> out = p.forward().to_doubles();
      for (size_t i = 0; i < out.size(); ++i) {
        const double beta = p.block.beta ? p.block.beta->value.to_doubles()[i % 2] : 0;
        // 4097 * scale and the shift cancel, with scale up to gamma / sqrt(epsilon).
        CHECK(std::abs(out[i] - beta) < (dtype == DType::f64 ? 1e-8 : 0.2));
      }
    }
  }
}

TEST_CASE("dropout: whole channels, the right share, the right scale, and the same channels again") {
  Setting setting{Norm::none, 1};
  setting.dropout = 0.3;
  Problem p(setting, {20, 100, 1, 1, 3}, DType::f64);
  assign(p.y, std::vector<double>(6000, 2.0));
  const std::vector<double> out = p.forward().to_doubles();
  int dropped = 0;
  for (size_t n = 0; n < 20; ++n) {
    for (size_t c = 0; c < 100; ++c) {
      const double first = out[n * 300 + c];
      CHECK_UNARY(first == 0 || std::abs(first - 2 / 0.7) < 1e-15);
      CHECK_UNARY(out[n * 300 + 100 + c] == first);
      CHECK_UNARY(out[n * 300 + 200 + c] == first);
      dropped += first == 0;
    }
  }
  CHECK(std::abs(dropped / 2000.0 - 0.3) < 5 * std::sqrt(0.3 * 0.7 / 2000));
  CHECK(p.forward().to_doubles() == out);
  p.call.random.stream += 1;
  CHECK(p.forward().to_doubles() != out);
}

TEST_CASE("contradictory calls are caught") {
  Problem p({Norm::group}, {2, 4, 1, 1, 2}, DType::f64);
  p.block.groups = 3;
  CHECK_THROWS_AS(p.forward(), InternalError);
  p.block.groups = 2;
  p.call.skip_mode = Skip::after;
  CHECK_THROWS_AS(p.forward(), InternalError);
  p.skip = Tensor::zeros({2, 4, 1, 2, 1}, DType::f64, {});
  CHECK_THROWS_AS(p.forward(), InternalError);
}
