// URPC: the published code's losses and gradients, its 2D network, and the method on tiny problems.

#include "methods/urpc.hpp"

#include <doctest/doctest.h>

#include "methods/supervised_loss.hpp"
#include "tests/method_check.hpp"

using namespace semivox;
using namespace semivox::testing;

namespace {

/// The reference's head k = 1 ... 4: (1 + 0.2 k) sin(0.1 i + k), two labelled and two unlabelled samples.
const Shape kShape{4, 2, 3, 3, 3};
Tensor head_logits(int k) {
  return by_formula<double>(
      kShape, [&](int64_t i) { return (1 + 0.2 * k) * std::sin(0.1 * static_cast<double>(i) + k); });
}

double sum_of_sizes(const Tensor& gradient) {
  double sum = 0;
  for (const double g : gradient.to_doubles()) sum += std::abs(g);
  return sum;
}

const TinyProblem kVolumes{{.name = "unet3d_ds", .filters = 2}, {4, 1, 32, 16, 16}};
const TinyProblem kSlices{{.name = "unet2d_urpc", .classes = 4, .filters = 4}, {4, 1, 1, 32, 32}};

}  // namespace

TEST_CASE("urpc: losses and gradients of the published code") {
  const Tensor labels = by_formula<uint8_t>(kShape.with_channels(1), [](int64_t v) { return v % 3 == 0; });
  std::vector<Variable> heads, unlabeled;
  Variable supervised;
  for (int k = 1; k <= 4; ++k) {
    heads.emplace_back(head_logits(k), true);
    unlabeled.push_back(heads.back().samples(2, 2));
    const LossValue s = supervised_loss(heads.back().samples(0, 2), labels.samples(0, 2), true);
    supervised = k == 1 ? s.loss : supervised + s.loss;
    if (k > 1) continue;
    CHECK(std::abs(s.results.data<double>()[1] - 0.766245677) < 5e-10);
    CHECK(std::abs(s.results.data<double>()[2] - 0.427293117) < 5e-10);
  }
  const LossValue consistency = pyramid_consistency(unlabeled);
  const double expected[] = {0.460337005, 0.214343354, 0.253111774, 0.618538824};
  for (int s = 0; s < 4; ++s)
    CHECK(std::abs(consistency.results.data<double>()[1 + s] - expected[s]) < 5e-10);
  const Variable loss = 0.25 * supervised + 0.1 * consistency.loss;
  CHECK(std::abs((0.25 * supervised).value().data<double>()[0] - 0.853145026) < 5e-10);
  CHECK(std::abs(loss.value().data<double>()[0] - 0.891803300) < 5e-10);
  loss.backward();
  const double whole[] = {0.167526875, 0.168991968, 0.190173013, 0.205631640};
  const double part[] = {0.021582701, 0.012147889, 0.011394125, 0.019583084};
  for (size_t k = 0; k < 4; ++k) {
    CHECK(std::abs(sum_of_sizes(heads[k].gradient()) - whole[k]) < 5e-10);
    CHECK(std::abs(sum_of_sizes(heads[k].gradient().samples(2, 2)) - part[k]) < 5e-10);
  }
}

TEST_CASE("urpc: the gradient of the consistency by every head, by central differences") {
  for (const int64_t classes : {2, 3, 4}) {
    const Shape shape{2, classes, 2, 3, 2};
    std::vector<Tensor> logits;
    for (int k = 0; k < 4; ++k)
      logits.push_back(by_formula<double>(shape, [&](int64_t i) { return 3 * hash_noise(i, k); }));
    const auto loss = [&](bool gradients) {
      std::vector<Variable> heads;
      for (const Tensor& z : logits) heads.emplace_back(z, gradients);
      return std::pair(heads, pyramid_consistency(heads));
    };
    const auto [heads, value] = loss(true);
    value.loss.backward();
    const auto number = [&] {
      const NoGrad no_grad;
      return loss(false).second.results.data<double>()[0];
    };
    for (size_t k = 0; k < 4; ++k)
      check_gradient(text("head ", k), logits[k], heads[k].gradient(), number,
                     {.tolerance = 1e-7, .floor = 1e-2});
  }
}

TEST_CASE("urpc: heads that agree cost nothing; probabilities that underflow stay finite") {
  const Shape shape{1, 2, 2, 3, 2};
  const Tensor z = by_formula<double>(shape, [](int64_t i) { return 3 * hash_noise(i, 1); });
  const Variable same(z);
  CHECK(std::abs(pyramid_consistency({same, same, same, same}).results.data<double>()[0]) < 1e-15);
  for (const float size : {200.0f, 2000.0f}) {  // exp(-200) is 0 in f32
    const auto extreme = [&](bool up) {
      return Variable(by_formula<float>(shape, [&](int64_t i) { return (i < 12) == up ? size : -size; }),
                      true);
    };
    for (const bool all : {true, false}) {  // all heads alike, or one of them against the others
      const Variable odd = extreme(all);
      const LossValue loss = pyramid_consistency({extreme(true), extreme(true), extreme(true), odd});
      CHECK(std::isfinite(loss.results.data<double>()[0]));
      loss.loss.backward();
      CHECK(std::isfinite(sum_of_sizes(odd.gradient())));
    }
  }
}

TEST_CASE("urpc trains and resumes, in 3D and 2D") {
  check_method("urpc", {}, kVolumes);
  check_method("urpc", {}, kSlices);
}

TEST_CASE("urpc: without labels' influence, the heads move together") {
  TinyProblem problem = kVolumes;
  problem.network.dropout = 0;
  problem.learning_rate = 0.01;
  const auto last = [&](const char* weight) {
    const auto method =
        build_method("urpc", {{"consistency", weight}, {"rampup_length", "0"}}, problem.setup());
    return term_of(run_steps(*method, problem, 0, problem.iterations).back(), "loss_consistency");
  };
  CHECK(last("10") < 0.8 * last("0"));
}

TEST_CASE("urpc: networks and classes that do not fit") {
  const auto build = [](const NetworkOptions& network) {
    MethodSetup setup;
    setup.network = network;
    return build_method("urpc", {}, setup);
  };
  CHECK_THROWS_WITH_AS(build({.name = "vnet"}),
                       "network: found 'vnet', expected one of unet3d_ds, unet2d_urpc for method urpc",
                       UsageError);
  CHECK_THROWS_WITH_AS(build({.name = "unet3d_ds", .classes = 5}),
                       "classes: found 5, expected at most 4 for method urpc", UsageError);
}
