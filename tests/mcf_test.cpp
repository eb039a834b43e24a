// MCF: losses and gradients of the published code, the competition, the pair of networks, iterations.

#include "methods/mcf.hpp"

#include <doctest/doctest.h>

#include "kernels/mean_prediction.hpp"
#include "kernels/uncertainty.hpp"
#include "tests/method_check.hpp"
#include "tests/network_check.hpp"

using namespace semivox;
using namespace semivox::testing;

namespace {

constexpr Shape kShape{4, 2, 4, 4, 4};

/// Logits 4 u(i, tag) in f32, as the reference numbers were made, computed with in f64.
Tensor tagged_logits(uint32_t tag) {
  return by_formula<double>(
      kShape, [&](int64_t i) { return static_cast<float>(4 * tag_noise(static_cast<uint32_t>(i), tag)); });
}

struct Fixture {
  Tensor vnet = tagged_logits(1), resvnet = tagged_logits(2);
  Tensor labels = by_formula<uint8_t>({2, 1, 4, 4, 4},
                                      [](int64_t i) { return tag_noise(static_cast<uint32_t>(i), 3) > 0; });

  std::vector<double> results(const McfLossOptions& options) const {
    return mcf_loss(Variable(vnet), Variable(resvnet), labels, options).results.to_doubles();
  }
};

double norm(const std::vector<double>& values) {
  double total = 0;
  for (const double v : values) total += v * v;
  return std::sqrt(total);
}

}  // namespace

TEST_CASE("mcf: loss and gradients of the published code") {
  const Fixture f;
  const Variable vnet(f.vnet, true), resvnet(f.resvnet, true);
  const LossValue loss = mcf_loss(vnet, resvnet, f.labels, {});
  const std::vector<double> r = loss.results.to_doubles();
  // The reference has seven decimals, computed in float32.
  const auto near = [](double value) { return doctest::Approx(value).epsilon(2e-7); };
  CHECK(r[0] == near(1.4289300 + 1.4830412));
  CHECK(r[1] == near(1.4289300));
  CHECK(r[2] == near(1.4830412));
  CHECK(r[3] == near(0.8605463));
  CHECK(r[4] == near(0.4052292));
  CHECK(r[5] == near(0.3263093));
  CHECK(r[6] == near(0.8777003));
  CHECK(r[7] == near(0.4230909));
  CHECK(r[8] == near(0.3002604));
  CHECK(r[9] == near(0.3211982));
  CHECK(r[10] == 0);
  CHECK(r[11] == 67);
  loss.loss.backward();
  const auto check_gradient_of = [](const Variable& z, double first, double last, double length) {
    const std::vector<double> g = z.gradient().to_doubles();
    CHECK(std::abs(g.front() - first) < 6e-9);
    CHECK(std::abs(g.back() - last) < 6e-9);
    CHECK(std::abs(norm(g) - length) < 6e-9);
  };
  check_gradient_of(vnet, -0.00801447, 0, 0.10963136);
  check_gradient_of(resvnet, -0.00802776, 0.00014028, 0.11024431);
}

TEST_CASE("mcf: the better network teaches, or the one that is named; only the other is changed by it") {
  const Fixture f;
  const std::vector<double> compete = f.results({});
  const std::vector<double> vnet = f.results({.teacher = McfTeacher::vnet}),
                            resvnet = f.results({.teacher = McfTeacher::resvnet});
  CHECK(compete == vnet);  // Dice 0.405 against 0.423
  CHECK(resvnet[10] == 1);
  CHECK(resvnet[9] != vnet[9]);
  CHECK(resvnet[1] == doctest::Approx(vnet[1] + 0.1 * resvnet[9]).epsilon(1e-14));
  CHECK(resvnet[2] == doctest::Approx(vnet[2] - 0.1 * vnet[9]).epsilon(1e-14));
  for (const McfTeacher teacher : {McfTeacher::vnet, McfTeacher::resvnet}) {
    const Variable a(f.vnet, true), b(f.resvnet, true);
    mcf_loss(a, b, f.labels, {.teacher = teacher}).loss.backward();
    const int64_t half = f.vnet.elements() / 2;  // samples 2 and 3
    const auto unlabeled = [&](const Variable& z) {
      const std::vector<double> g = z.gradient().to_doubles();
      return norm({g.begin() + half, g.end()});
    };
    CHECK((unlabeled(a) == 0) == (teacher == McfTeacher::vnet));
    CHECK((unlabeled(b) == 0) == (teacher == McfTeacher::resvnet));
  }
  // Equal networks: nothing to correct, the ResVNet wins, and the V-Net is pulled towards certainty.
  const std::vector<double> equal =
      mcf_loss(Variable(f.vnet), Variable(f.vnet), f.labels, {}).results.to_doubles();
  CHECK(equal[10] == 1);
  CHECK(equal[11] == 0);
  CHECK(equal[5] == 0);
  CHECK(equal[8] == 0);
}

TEST_CASE("mcf: gradients by central differences") {
  for (const int64_t classes : {2, 3, 4}) {
    CAPTURE(classes);
    const Shape shape{3, classes, 3, 4, 2};
    // The pseudo-labels are constants: both networks by themselves, with the other one's logits frozen.
    const Tensor a = random_tensor(shape, 1), b = random_tensor(shape, 2);
    const Tensor labels = by_formula<uint8_t>({1, 1, 3, 4, 2}, [&](int64_t i) { return i % classes; });
    for (const McfTeacher teacher : {McfTeacher::vnet, McfTeacher::resvnet}) {
      const McfLossOptions options{.consistency = 0.7, .temperature = 0.5, .teacher = teacher};
      const Variable x(a, true), y(b, true);
      mcf_loss(x, y, labels, options).loss.backward();
      const auto loss_of = [&](size_t network) {
        const NoGrad no_grad;
        return mcf_loss(Variable(a), Variable(b), labels, options).results.to_doubles()[1 + network];
      };
      const GradientOptions tight{.step = 1e-6, .tolerance = 1e-7, .floor = 1e-2};
      check_gradient(
          "V-Net", a, x.gradient(), [&] { return loss_of(0); }, tight);
      check_gradient(
          "ResVNet", b, y.gradient(), [&] { return loss_of(1); }, tight);
    }
  }
}

TEST_CASE("mcf: the pair of networks predicts the mean of what each predicts by itself") {
  CHECK(parameter_count({.name = "mcf"}) == 9448866 + 17930354);
  const auto pair = make_network({.name = "mcf", .filters = 4, .dropout = 0});
  const auto vnet = make_network({.name = "vnet", .filters = 4, .dropout = 0});
  const auto resvnet = make_network({.name = "resvnet", .filters = 4, .dropout = 0});
  for (Network* network : {pair.get(), vnet.get(), resvnet.get()}) network->allocate(DType::f32, {}, false);
  fill_by_tags(pair->parameters());
  // The parts have the names of the single networks behind `vnet.` and `resvnet.`, in the same order.
  std::deque<Parameter>& parameters = pair->parameters().parameters();
  size_t k = 0;
  for (Network* part : {vnet.get(), resvnet.get()}) {
    part->parameters().initialize(1);
    for (Parameter& p : part->parameters().parameters()) {
      REQUIRE(parameters[k].name == part->options().name + "." + p.name);
      p.value.copy_from(parameters[k++].value);
    }
    part->parameters().touch();
  }
  REQUIRE(k == parameters.size());
  const NoGrad no_grad;
  const Variable x(tagged_image({2, 1, 16, 32, 16}, DType::f32));
  const NetworkOutput output = pair->forward_all(x, {});
  const Tensor a = vnet->forward(x, {}).value(), b = resvnet->forward(x, {}).value();
  REQUIRE(output.auxiliary.size() == 2);
  CHECK(output.auxiliary[0].value().to_doubles() == a.to_doubles());
  CHECK(output.auxiliary[1].value().to_doubles() == b.to_doubles());
  const std::vector<double> p = kernels::softmax(a).to_doubles(), q = kernels::softmax(b).to_doubles(),
                            mean = kernels::softmax(pair->forward(x, {}).value()).to_doubles();
  double worst = 0;
  for (size_t i = 0; i < mean.size(); ++i) worst = std::max(worst, std::abs(mean[i] - (p[i] + q[i]) / 2));
  CHECK(worst < 3e-7);
}

TEST_CASE("mcf: gradient of the pair, far logits, wrong options") {
  check_network_gradient({.name = "mcf", .filters = 1}, {2, 1, 32, 16, 16});
  Tensor a = Tensor::empty({1, 2, 1, 1, 1}, DType::f32, {}), b = a.clone(), dy = a.clone();
  a.data<float>()[0] = 200, a.data<float>()[1] = -200;  // p = (1, 0) and q = (0, 1) beyond f32
  b.data<float>()[0] = -200, b.data<float>()[1] = 200;
  dy.data<float>()[0] = 1, dy.data<float>()[1] = 2;
  for (const double p : kernels::softmax(kernels::mean_prediction(a, b)).to_doubles())
    CHECK(p == doctest::Approx(0.5).epsilon(1e-6));
  for (const double g : kernels::mean_prediction_backward(a, b, dy).to_doubles()) CHECK(g == 0);
  CHECK_THROWS_WITH_AS(build_method("mcf", {}, TinyProblem{{}, {2, 1, 16, 16, 16}}.setup()),
                       "network: found 'vnet', expected mcf for method mcf", UsageError);
  CHECK_THROWS_AS(
      build_method("mcf", {}, TinyProblem{{.name = "mcf", .classes = 9}, {2, 1, 16, 16, 16}}.setup()),
      UsageError);
}

TEST_CASE("mcf: iterations, the same again, and resumed") {
  const std::vector<StepReport> reports = check_method("mcf", {{"rampup_unit", "2"}, {"rampup_length", "2"}},
                                                       {{.name = "mcf", .filters = 2}, {4, 1, 16, 16, 16}});
  CHECK(term_of(reports[0], "consistency_weight") == doctest::Approx(0.1 * std::exp(-5.0)).epsilon(1e-14));
  CHECK(term_of(reports[4], "consistency_weight") == 0.1);
}
