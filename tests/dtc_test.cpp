// DTC: the loss and its gradients against numbers of the published formulas, and whole iterations.
#include "methods/dtc.hpp"

#include "kernels/signed_distance.hpp"
#include "layers/pointwise.hpp"
#include "methods/schedule.hpp"
#include "methods/sliding_window.hpp"
#include "tests/method_check.hpp"

using namespace semivox;
using semivox::testing::build_method;
using semivox::testing::by_formula;
using semivox::testing::run_steps;
using semivox::testing::TinyProblem;

namespace {

/// Two labelled samples, a ball and a half-space, and two others; logits b and maps tanh(a) by formula.
struct Fixture {
  const Shape shape{4, 1, 8, 8, 6};
  const Tensor b = by_formula<double>(shape, [](int64_t i) { return 2 * std::sin(0.05 * i); });
  const Tensor a = by_formula<double>(shape, [](int64_t i) { return 0.002 * std::cos(0.03 * i); });
  const Tensor labels = by_formula<uint8_t>(shape.with_samples(2), [](int64_t i) {
    const double x = i / 48 % 8 - 3.5, y = i / 6 % 8 - 3.5, z = i % 6 - 2.5;
    return i < 384 ? x * x + y * y + z * z <= 6.75 : x < -0.5;
  });
  const Tensor target = kernels::signed_distance(labels);
};

/// Without dropout nothing is random.
const TinyProblem kProblem{{.name = "vnet_sdf", .filters = 2, .dropout = 0}, {4, 1, 16, 16, 16}};

double total(const Tensor& values, bool magnitudes) {
  double sum = 0;
  for (const double v : values.to_doubles()) sum += magnitudes ? std::abs(v) : v;
  return sum;
}

}  // namespace

TEST_CASE("dtc: terms and gradients of the published loss") {
  const Fixture f;
  CHECK(total(Tensor(f.labels.to({})).samples(0, 1), false) == 88);
  CHECK(std::abs(total(f.target.samples(1, 1), false) - 64) < 1e-5);
  double squares = 0;
  for (const double s : f.target.to_doubles()) squares += s * s;
  CHECK(std::abs(squares - 296.533333) < 5e-6);  // rounded to f32, 768 times
  const double lambda = staircase_rampup(10 * 150, 150, 40);
  CHECK(std::abs(lambda - 0.060054668) < 5e-10);
  const Variable a(f.a, true), b(f.b, true);
  const LossValue loss = dtc_loss(b, tanh(a), f.labels, f.target, lambda, {});
  loss.loss.backward();
  const double* r = loss.results.data<double>();
  // The reference numbers have targets in f64; f32 targets, as in training, are 3e-9 off in the map's error.
  CHECK(std::abs(r[0] - 0.630994457) < 2e-9);
  CHECK(std::abs(r[1] - 0.502000201) < 5e-10);
  CHECK(std::abs(r[2] - 0.386674893) < 4e-9);
  CHECK(std::abs(r[3] - 0.216332696) < 5e-10);
  CHECK(std::abs(r[4] - 0.8862697508) < 5e-10);
  CHECK(std::abs(total(a.gradient(), true) - 7.592575209) < 2e-9);
  CHECK(std::abs(total(b.gradient(), true) - 0.210631761) < 5e-10);
  CHECK(std::abs(b.gradient().data<double>()[0] - 2.635338e-4) < 5e-11);
  CHECK(std::abs(a.gradient().data<double>()[100] - -4.934127e-3) < 5e-10);
}

TEST_CASE("dtc: gradients by central differences, of every weight and steepness") {
  const Fixture f;
  const Tensor t = by_formula<double>(f.shape, [](int64_t i) { return 0.6 * std::cos(0.03 * i); });
  for (const DtcOptions& options : {DtcOptions{}, DtcOptions{0.7, 20}, DtcOptions{0, 3}}) {
    const bool steep = options.steepness > 100;
    const Tensor& map = steep ? f.a : t;
    const Variable b(f.b, true), distance(map, true);
    const auto loss = [&](const Variable& x, const Variable& y) {
      return dtc_loss(x, y, f.labels, f.target, 0.8, options);
    };
    loss(b, distance).loss.backward();
    const auto number = [&] {
      const NoGrad no_grad;
      return loss(Variable(f.b), Variable(map)).results.data<double>()[0];
    };
    testing::check_gradient("logit", f.b, b.gradient(), number, {.tolerance = 1e-6, .floor = 1e-3});
    testing::check_gradient("map", map, distance.gradient(), number,
                            {.step = steep ? 1e-7 : 1e-6, .tolerance = 1e-6, .floor = 1e-3});
  }
}

TEST_CASE("dtc: the ramp of the consistency weight") {
  for (const auto& [step, weight] :
       std::map<int64_t, double>{{0, 0.00674}, {10, 0.0601}, {20, 0.2865}, {30, 0.7316}, {39, 0.99688}}) {
    CHECK(std::abs(staircase_rampup(150 * step, 150, 40) - weight) < 5e-5);
    CHECK(staircase_rampup(150 * step + 149, 150, 40) == staircase_rampup(150 * step, 150, 40));
  }
}

TEST_CASE("dtc: in f32 the mask of the map saturates to 0 and 1, with gradient 0 and never NaN") {
  const Shape shape{1, 1, 1, 1, 4};
  const std::vector<float> values{-1.0f, -0.0112f, 0.0592f, 1.0f};
  const Variable map(by_formula<float>(shape, [&](int64_t i) { return values[static_cast<size_t>(i)]; }),
                     true);
  const Variable logit(Tensor::zeros(shape, DType::f32, {}), true);
  const Tensor labels = Tensor::zeros(shape, DType::u8, {}), target = Tensor::zeros(shape, DType::f32, {});
  const LossValue loss = dtc_loss(logit, map, labels, target, 1, {0, 1500});
  loss.loss.backward();
  CHECK(loss.results.data<double>()[3] == 0.25);  // p = 1/2 against 0 or 1 everywhere
  CHECK(map.gradient().to_doubles() == std::vector<double>{0, 0, 0, 0});
}

TEST_CASE("dtc: iterations, the same for every seed without dropout, and resumed") {
  testing::check_method("dtc", {}, kProblem);
  CHECK_FALSE(testing::is_random("dtc", {}, kProblem));
  TinyProblem dropped = kProblem;
  dropped.network.dropout = 0.5;
  testing::check_method("dtc", {}, dropped);
  CHECK(testing::is_random("dtc", {}, dropped));
}

TEST_CASE("dtc: what it logs adds up, with weights of its own") {
  const auto method = build_method(
      "dtc", {{"consistency", "0.5"}, {"distance_weight", "2"}, {"rampup_length", "0"}}, kProblem.setup());
  const StepReport r = run_steps(*method, kProblem, 0, 1)[0];
  const double sum = r[1].second + 2 * r[2].second + 0.5 * r[3].second;
  CHECK(std::abs(r[0].second - sum) < 1e-14 * sum);
  CHECK(r[5].second == 0.5);
}

TEST_CASE("dtc: predictions are the sigmoid of the foreground logit") {
  const auto method = build_method("dtc", {}, kProblem.setup());
  run_steps(*method, kProblem, 0, 2);
  Network& student = method->student();
  const Tensor image = kProblem.data(2).image.samples(0, 1);
  const std::vector<double> p =
      predict_probabilities(student, image, {.patch = {16, 16, 16}, .stride = {16, 16, 16}}).to_doubles();
  const NoGrad no_grad;
  const std::vector<double> z = student.forward(Variable(image), {}).value().to_doubles();
  double worst = 0;
  for (size_t i = 0; i < p.size(); i += 2) {
    worst =
        std::max({worst, std::abs(p[i + 1] - 1 / (1 + std::exp(-z[i + 1]))), std::abs(p[i] + p[i + 1] - 1)});
  }
  CHECK(worst < 2e-7);
}

TEST_CASE("dtc: other networks are refused by name") {
  CHECK_THROWS_WITH_AS(build_method("dtc", {}, {}), "network: found 'vnet', expected vnet_sdf for method dtc",
                       UsageError);
}
