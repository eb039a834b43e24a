// The methods' losses: numbers of the published code in f64, and the gradient of every loss program by
// central differences.

#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include "kernels/mixing.hpp"
#include "kernels/uncertainty.hpp"
#include "methods/bcp.hpp"
#include "methods/consistency_options.hpp"
#include "methods/mean_teacher.hpp"
#include "methods/rectified_consistency.hpp"
#include "methods/supervised_loss.hpp"
#include "methods/ua_mt.hpp"
#include "tests/gradients.hpp"
#include "tests/hash_noise.hpp"

using namespace semivox;
using semivox::testing::by_formula;
using semivox::testing::channels_last;
using semivox::testing::hash_noise;

namespace {

doctest::Approx near(double value, double relative = 1e-10) {
  return doctest::Approx(value).epsilon(relative);
}

double norm(const std::vector<double>& values) {
  double total = 0;
  for (const double v : values) total += v * v;
  return std::sqrt(total);
}

Tensor noise_logits(const Shape& shape, int64_t number, double scale = 3) {
  return by_formula<double>(shape, [&](int64_t i) { return scale * hash_noise(i, number); });
}

Tensor noise_labels(const Shape& shape, int64_t classes, int64_t number) {
  return by_formula<uint8_t>(shape.with_channels(1), [&](int64_t i) {
    return static_cast<double>(classes) * (hash_noise(i, number) + 1) / 2;
  });
}

/// Gradient of the loss by its logits, against central differences of the loss.
void check_loss_gradient(const std::string& name, const Tensor& logits,
                         const std::function<LossValue(const Variable&)>& loss) {
  const Variable z(logits, true);
  const LossValue value = loss(z);
  value.loss.backward();
  CHECK(value.results.data<double>()[0] == value.loss.value().data<double>()[0]);
  const auto number = [&] {
    const NoGrad no_grad;
    return loss(Variable(logits)).results.data<double>()[0];
  };
  testing::check_gradient(name, logits, z.gradient(), number, {.tolerance = 1e-7, .floor = 1e-2});
}

}  // namespace

// UA-MT and the supervised baseline -----------------------------------------------------------------------

namespace {

/// One sample of 4x4x4 voxels: student, one teacher pass, and the mean of eight passes.
struct UaMtFixture {
  const Shape shape{1, 2, 4, 4, 4};
  const Tensor student = noise_logits(shape, 50), teacher = noise_logits(shape, 60);
  const Tensor labels =
      by_formula<uint8_t>({1, 1, 4, 4, 4}, [](int64_t v) { return hash_noise(v, 70) > 0.4; });
  Tensor mean = Tensor::zeros(shape, DType::f64, {});

  UaMtFixture() {
    for (int64_t call = 0; call < 4; ++call) {  // two passes per call, as the method makes them
      Tensor passes = Tensor::empty(shape.with_samples(2), DType::f64, {});
      for (int64_t j = 0; j < 2; ++j) passes.samples(j, 1).copy_from(noise_logits(shape, 100 + 2 * call + j));
      kernels::accumulate_softmax(passes, 2, 1.0 / 8, mean);
    }
  }

  LossValue loss(const Variable& z, double lambda, int64_t t, bool kl) const {
    return ua_mt_loss(z, labels, teacher, mean, 0, lambda, ua_mt_threshold(t, 6000), kl);
  }
};

}  // namespace

TEST_CASE("ua_mt: masked consistency, mask and gradient of the published code") {
  const UaMtFixture f;
  const std::vector<double> u = kernels::entropy(f.mean).to_doubles();
  double total = 0;
  for (const double value : u) total += value;
  CHECK(*std::min_element(u.begin(), u.end()) == near(0.5061919480));
  CHECK(*std::max_element(u.begin(), u.end()) == near(0.6928853255));
  CHECK(total / 64 == near(0.6637900351));

  struct Row {
    int64_t t;
    double threshold, voxels, mse, kl, gradient;
  };
  for (const Row& row : {Row{0, 0.5210279827, 1, 0.0517379295, 0.0537550724, 0.1453798303},
                         Row{3000, 0.5695078835, 3, 0.1066488053, 0.1271488561, 0.1071908972},
                         Row{4500, 0.6466397130, 13, 0.2558160907, 0.4004815704, 0.0535097094}}) {
    CAPTURE(row.t);
    CHECK(ua_mt_threshold(row.t, 6000) == near(row.threshold));
    const Variable with(f.student, true), without(f.student, true);
    const LossValue mse = f.loss(with, 1, row.t, false);
    CHECK(mse.results.data<double>()[4] == row.voxels);
    CHECK(mse.results.data<double>()[3] == near(row.mse, 2e-9));
    CHECK(f.loss(Variable(f.student), 1, row.t, true).results.data<double>()[3] == near(row.kl, 2e-9));
    mse.loss.backward();
    f.loss(without, 0, row.t, false).loss.backward();
    std::vector<double> gradient = with.gradient().to_doubles();  // of the consistency term alone
    for (size_t i = 0; i < gradient.size(); ++i) gradient[i] -= without.gradient().to_doubles()[i];
    CHECK(norm(gradient) == near(row.gradient, 2e-9));
  }
}

TEST_CASE("ua_mt: unmasked distance, and a mask that lets nothing through gives 0") {
  const UaMtFixture f;
  const Variable z(f.student);
  const auto consistency = [&](double threshold) {
    return ua_mt_loss(z, f.labels, f.teacher, f.mean, 0, 1, threshold, false).results.to_doubles();
  };
  CHECK(consistency(10)[3] == near(0.2124684054, 2e-9));
  CHECK(consistency(10)[4] == 64);
  CHECK(consistency(0)[3] == 0);
  CHECK(consistency(0)[4] == 0);
}

TEST_CASE("supervised: cross-entropy and Dice of the published code") {
  const UaMtFixture f;
  const std::vector<double> foreground =
      supervised_loss(Variable(f.student), f.labels, false).results.to_doubles();
  CHECK(foreground[1] == near(1.161955526, 1e-9));
  CHECK(foreground[2] == near(0.5270443435, 1e-9));
  CHECK(foreground[0] == near(0.5 * (1.161955526 + 0.5270443435), 1e-9));
  CHECK(supervised_loss(Variable(f.student), f.labels, true).results.to_doubles()[2] ==
        near(0.4467805168, 1e-9));
}

TEST_CASE("ramps and thresholds over the training") {
  OptionReader defaults;
  const ConsistencyOptions ua_mt(defaults);
  struct Row {
    int64_t t;
    double lambda, threshold;
  };
  for (const Row& row : {Row{0, 6.737947e-4, 0.52102798}, Row{150, 8.624701e-4, 0.52135493},
                         Row{1500, 6.005467e-3, 0.53026707}, Row{3000, 2.865048e-2, 0.56950788},
                         Row{4500, 7.316156e-2, 0.64663971}, Row{5999, 9.968799e-2, 0.69314716}}) {
    CAPTURE(row.t);
    CHECK(ua_mt.ramp.at(row.t) == near(row.lambda, 1e-7));
    CHECK(ua_mt_threshold(row.t, 6000) == near(row.threshold, 1e-8));
  }
  OptionReader reader(std::map<std::string, std::string>{{"rampup_length", "200"}});
  const ConsistencyOptions mean_teacher(reader);
  CHECK(mean_teacher.ramp.at(0) == near(6.737947e-4, 1e-7));
  CHECK(mean_teacher.ramp.at(149) == mean_teacher.ramp.at(0));  // a staircase
  CHECK(mean_teacher.ramp.at(1000) == near(9.05e-4, 1e-3));
  CHECK(mean_teacher.ramp.at(15000) == near(2.865048e-2, 1e-6));
  CHECK(mean_teacher.ramp.at(29999) == near(9.9988e-2, 1e-5));
  CHECK(mean_teacher.ramp.at(30000) == 0.1);
  const auto mean_teacher_ema = [&](int64_t t) { return mean_teacher.ema_in({0, t, 0.01, nullptr}).now(); };
  // The teacher starts as a copy of the student and reaches the full decay after 100 iterations.
  CHECK(mean_teacher_ema(0) == 0);
  CHECK(mean_teacher_ema(1) == 0.5);
  CHECK(mean_teacher_ema(2) == near(2.0 / 3, 1e-15));
  CHECK(mean_teacher_ema(98) < 0.99);
  CHECK(mean_teacher_ema(99) == near(0.99, 1e-15));
  CHECK(mean_teacher_ema(5000) == 0.99);
}

TEST_CASE("learning rates: step, and poly with the counter one behind") {
  LearningRate step;
  CHECK(step.at(0) == 0.01);
  CHECK(step.at(2499) == 0.01);
  CHECK(step.at(2500) == near(0.001, 1e-14));
  CHECK(step.at(5000) == near(0.0001, 1e-14));
  CHECK(step.at(5999) == near(0.0001, 1e-14));
  LearningRate poly;
  poly.kind = LearningRate::Kind::poly;
  poly.iterations = 30000;
  CHECK(poly.at(0) == 0.01);
  CHECK(poly.at(1) == 0.01);
  CHECK(poly.at(2) == near(0.01 * std::pow(1 - 1.0 / 30000, 0.9), 1e-14));
  CHECK(poly.at(29999) == near(0.01 * std::pow(1 - 29998.0 / 30000, 0.9), 1e-12));
  LearningRate constant;
  constant.kind = LearningRate::Kind::constant;
  CHECK(constant.at(100000) == 0.01);
}

// BCP ---------------------------------------------------------------------------------------------------

namespace {

Tensor wave_logits(const Shape& shape) {
  return by_formula<double>(shape, [](int64_t k) { return 2 * std::sin(0.37 * static_cast<double>(k)); });
}

/// Region 0 outside the mask's box, 1 inside.
std::vector<double> bcp_results(const Tensor& z, const Tensor& outer, const Tensor& inner, const Tensor& mask,
                                const BcpLossOptions& options) {
  return bcp_loss(Variable(z), outer, inner, mask, options).results.to_doubles();
}

}  // namespace

TEST_CASE("bcp in 3D: losses and gradient of the published code") {
  const Shape shape{2, 2, 6, 5, 4};
  const Tensor z = wave_logits(shape);
  const Tensor outer = by_formula<uint8_t>(shape.with_channels(1), [](int64_t v) { return v % 5 < 2; });
  const Tensor inner = by_formula<uint8_t>(shape.with_channels(1), [](int64_t v) { return v % 7 < 3; });
  const Tensor mask = kernels::box_mask({6, 5, 4}, {{{1, 1, 1}, {5, 4, 3}}}, {});
  const std::vector<double> r = bcp_results(z, outer, inner, mask, {1, 0.5, false, false});
  CHECK(r[5] == near(0.5143862001928, 1e-12));
  CHECK(r[6] == near(0.4750557471707, 1e-12));
  CHECK(r[3] == near(0.7473289093169, 1e-12));
  CHECK(r[0] == near(0.9167881344338, 1e-12));
  CHECK(bcp_results(z, outer, inner, mask, {0.5, 1, false, false})[0] == near(0.8872899367352, 1e-12));

  const Variable variable(z, true);
  bcp_loss(variable, outer, inner, mask, {1, 0.5, false, false}).loss.backward();
  const std::vector<double> gradient = variable.gradient().to_doubles();
  const auto at = [&](int64_t n, int64_t c, int64_t d, int64_t h, int64_t w) {
    return gradient[static_cast<size_t>(channels_last(shape, (((n * 2 + c) * 6 + d) * 5 + h) * 4 + w))];
  };
  CHECK(at(0, 0, 0, 0, 0) == near(0.0014400607386, 1e-10));
  CHECK(at(1, 1, 2, 2, 2) == near(-0.0031875148017, 1e-10));
  CHECK(norm(gradient) == near(0.0524166664573, 1e-11));
}

TEST_CASE("bcp in 2D: four classes, squares pooled over the batch; the first release's background") {
  const Shape shape{3, 4, 1, 8, 7};
  const Tensor z = wave_logits(shape);
  const Tensor outer = by_formula<uint8_t>(shape.with_channels(1), [](int64_t v) { return v / 3 % 4; });
  const Tensor inner = by_formula<uint8_t>(shape.with_channels(1), [](int64_t v) { return v / 5 % 4; });
  const Tensor mask = kernels::box_mask({1, 8, 7}, {{{0, 2, 1}, {1, 7, 5}}}, {});
  const std::vector<double> r = bcp_results(z, outer, inner, mask, {1, 0.5, true, false});
  CHECK(r[5] == near(0.7779693584433, 1e-12));
  CHECK(r[6] == near(0.6920242381814, 1e-12));
  CHECK(r[3] == near(2.5630762229002, 1e-12));
  CHECK(r[4] == near(2.3402913052159, 1e-12));
  CHECK(r[0] == near(2.4286016765210, 1e-12));
  CHECK(bcp_results(z, outer, inner, mask, {1, 0.5, true, true})[5] == near(0.7527983998245, 1e-12));
}

// Rectified consistency ---------------------------------------------------------------------------------

TEST_CASE("rectified consistency: value and gradient of the published code") {
  // Numbers by another hash, u in [-0.5, 0.5), as the reference numbers were made; float32 like them.
  const auto fill = [](int64_t i, uint32_t tag) {
    uint32_t h = (static_cast<uint32_t>(i) + 7919u * tag) * 2654435761u;
    h ^= h >> 16;
    h *= 2246822519u;
    h ^= h >> 13;
    return h / 4294967296.0 - 0.5;
  };
  const Shape shape{4, 2, 4, 4, 4};
  const auto logits = [&](uint32_t tag) {
    return by_formula<double>(shape, [&](int64_t i) { return static_cast<float>(4 * fill(i, tag)); });
  };
  const Tensor a = logits(1), b = logits(2);
  const Tensor labels =
      by_formula<uint8_t>(shape.with_channels(1), [&](int64_t v) { return fill(v, 3) > 0; });

  const Variable student(a, true);
  const LossValue supervised = supervised_loss(student.samples(0, 2), labels.samples(0, 2), false);
  const LossValue rectified = rectified_consistency(student, b);
  // The reference has seven digits, computed in float32.
  CHECK(supervised.results.data<double>()[1] == near(0.8605463, 2e-7));
  CHECK(supervised.results.data<double>()[2] == near(0.4052292, 2e-7));
  CHECK(supervised.results.data<double>()[0] == near(0.6328877, 2e-7));
  CHECK(rectified.results.data<double>()[0] == near(0.9860242, 2e-7));

  (supervised.loss + rectified.loss).backward();
  const std::vector<double> gradient = student.gradient().to_doubles();
  const auto at = [&](int64_t i) { return gradient[static_cast<size_t>(channels_last(shape, i))]; };
  CHECK(std::abs(at(0) - -0.00341372) < 1e-8);
  CHECK(std::abs(at(shape.elements() - 1) - 0.00000800) < 1e-8);
  CHECK(std::abs(norm(gradient) - 0.06930539) < 1e-8);

  double kl = 0;
  for (const double value : kernels::kl_divergence(b, a).to_doubles()) kl += value / 256;
  CHECK(rectified.results.data<double>()[2] == near(kl, 1e-13));
}

// Gradients ---------------------------------------------------------------------------------------------

TEST_CASE("the gradient of every method's loss, by central differences") {
  for (const int64_t classes : {2, 4}) {
    CAPTURE(classes);
    const Shape shape{4, classes, 3, 4, 2};
    const Tensor z = noise_logits(shape, 1);
    const Tensor teacher = noise_logits(shape, 2), labels = noise_labels(shape, classes, 3);
    const Tensor mean = kernels::softmax(noise_logits(shape, 4));
    const Tensor some = labels.samples(0, 2);
    const auto check = [&](const std::string& name, const std::function<LossValue(const Variable&)>& loss) {
      check_loss_gradient(name, z, loss);
    };
    for (const bool background : {false, true}) {
      check("supervised", [&](const Variable& x) { return supervised_loss(x, labels, background); });
      check("mean_teacher", [&](const Variable& x) {
        return mean_teacher_loss(x, some, teacher.samples(2, 2), 0.7, background);
      });
    }
    const double threshold = classes == 2 ? 0.5 : 0.9;
    for (const bool kl : {false, true}) {
      for (const int64_t first : {0, 2}) {
        const Tensor t = teacher.samples(first, 4 - first), m = mean.samples(first, 4 - first);
        const auto loss = [&](const Variable& x) {
          return ua_mt_loss(x, some, t, m, first, 0.7, threshold, kl);
        };
        const double voxels = loss(Variable(z)).results.data<double>()[4];
        CHECK(voxels > 5);  // the mask takes some voxels and leaves some
        CHECK(voxels < static_cast<double>((4 - first) * 24 - 5));
        check("ua_mt", loss);
      }
    }
    const Tensor inner = noise_labels(shape, classes, 5);
    const Tensor mask = kernels::box_mask({3, 4, 2}, {{{1, 1, 0}, {3, 3, 1}}}, {});
    for (const bool squares : {false, true}) {
      for (const bool unmasked : {false, true}) {
        check("bcp", [&](const Variable& x) {
          return bcp_loss(x, labels, inner, mask, {1, 0.5, squares, unmasked});
        });
      }
    }
    check("rectified", [&](const Variable& x) { return rectified_consistency(x, teacher); });
  }
}
