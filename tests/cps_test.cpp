// Cross pseudo supervision: the published code's cross terms, their gradient, and the method on tiny
// problems.

#include "methods/cps.hpp"

#include <doctest/doctest.h>

#include "kernels/uncertainty.hpp"
#include "methods/supervised_loss.hpp"
#include "tests/method_check.hpp"

using namespace semivox;
using namespace semivox::testing;

namespace {

const Shape kShape{4, 2, 3, 3, 3};

Tensor first_logits() {
  return by_formula<double>(kShape, [](int64_t i) { return std::sin(0.1 * static_cast<double>(i)); });
}
Tensor second_logits() {
  return by_formula<double>(kShape, [](int64_t i) { return 0.8 * std::cos(0.13 * static_cast<double>(i)); });
}

const TinyProblem kVolumes{{.name = "unet3d", .filters = 2}, {4, 1, 32, 16, 16}};
const TinyProblem kSlices{{.name = "unet2d", .classes = 4, .filters = 4}, {4, 1, 1, 32, 32}};

/// Standard deviation of a parameter's values times the square root of its fan.
double normalized_deviation(const Parameter& p, double fan) {
  double square = 0;
  for (const double v : p.value.to_doubles()) square += v * v / static_cast<double>(p.count);
  return std::sqrt(square * fan);
}

}  // namespace

TEST_CASE("cps: the published code's cross terms") {
  const Variable z1(first_logits()), z2(second_logits());
  const auto cross = [](const Variable& taught, const Variable& teaching) {
    const Tensor decisions = kernels::hard_labels(teaching.samples(2, 2).value(), false);
    return label_cross_entropy(taught.samples(2, 2), decisions).results.data<double>()[0];
  };
  CHECK(std::abs(cross(z1, z2) - 0.486790064) < 5e-10);
  CHECK(std::abs(cross(z2, z1) - 0.500356711) < 5e-10);
  const Tensor labels = by_formula<uint8_t>(kShape.with_channels(1), [](int64_t v) { return v % 3 == 0; });
  CHECK(std::abs(supervised_loss(z2.samples(0, 2), labels.samples(0, 2), true).results.data<double>()[0] -
                 0.699576455) < 5e-10);
}

TEST_CASE("cps: the gradient of the cross term, by central differences") {
  for (const int64_t classes : {2, 4}) {
    const Shape shape{3, classes, 3, 4, 2};
    const Tensor z = by_formula<double>(shape, [](int64_t i) { return 3 * hash_noise(i, 1); });
    const Tensor labels = by_formula<uint8_t>(shape.with_channels(1), [&](int64_t v) { return v % classes; });
    const Variable x(z, true);
    label_cross_entropy(x, labels).loss.backward();
    const auto number = [&] {
      const NoGrad no_grad;
      return label_cross_entropy(Variable(z), labels).results.data<double>()[0];
    };
    check_gradient("cross-entropy", z, x.gradient(), number, {.tolerance = 1e-7, .floor = 1e-2});
  }
}

TEST_CASE("cps trains and resumes, in 3D and 2D") {
  check_method("cps", {}, kVolumes);
  check_method("cps", {{"cross_on", "all"}, {"first_weights", "network"}}, kSlices);
}

TEST_CASE("cps: first weights of the two networks") {
  const auto deviations = [](const char* first_weights) {
    const TinyProblem problem{{.name = "unet3d"}, {4, 1, 32, 16, 16}};
    const auto method = build_method("cps", {{"first_weights", first_weights}}, problem.setup());
    std::vector<double> found;
    for (const auto& [name, network] : method->networks()) {
      for (const Parameter& p : network->parameters().parameters()) {
        if (p.name != "up_concat4.conv.conv1.0.weight") continue;  // 384 to 128 channels
        found.push_back(normalized_deviation(p, 27.0 * 384));
        found.push_back(normalized_deviation(p, 27.0 * (384 + 128)));
      }
    }
    REQUIRE(found.size() == 4);
    return found;
  };
  // 1.3 million normal numbers: their deviation is known to 0.06 %.
  const double root_2 = std::sqrt(2.0);
  const std::vector<double> published = deviations("kaiming_xavier"), own = deviations("network");
  CHECK(std::abs(published[0] - root_2) < 5e-3);  // Kaiming
  CHECK(std::abs(published[3] - root_2) < 5e-3);  // Xavier
  CHECK(std::abs(own[0] - root_2) < 5e-3);
  CHECK(std::abs(own[2] - root_2) < 5e-3);  // this network's own weights are Kaiming's, too

  for (const char* first_weights : {"kaiming_xavier", "network"}) {  // no 3D convolutions: no difference
    const auto method = build_method("cps", {{"first_weights", first_weights}}, kSlices.setup());
    const auto networks = method->networks();
    const auto plain = make_network(kSlices.network);
    plain->allocate(DType::f32, {}, false);
    plain->parameters().initialize(kSlices.setup().seed);
    CHECK(networks[0].second->parameters().values().to_doubles() ==
          plain->parameters().values().to_doubles());
    CHECK(networks[1].second->parameters().values().to_doubles() !=
          plain->parameters().values().to_doubles());
  }
}

TEST_CASE("cps: without cross supervision the first network is the supervised one") {
  TinyProblem problem = kSlices;
  problem.network.dropout = 0;
  const auto method = build_method("cps", {{"consistency", "0"}}, problem.setup());
  const std::vector<StepReport> reports = run_steps(*method, problem, 0, 3);
  const auto alone = build_method("em", {{"consistency", "0"}}, problem.setup());
  const std::vector<StepReport> expected = run_steps(*alone, problem, 0, 3);
  for (size_t t = 0; t < 3; ++t) {
    CHECK(term_of(reports[t], "loss_ce_1") == term_of(expected[t], "loss_ce"));
    CHECK(term_of(reports[t], "loss_dice_1") == term_of(expected[t], "loss_dice"));
    CHECK(term_of(reports[t], "loss_ce_2") != term_of(reports[t], "loss_ce_1"));
  }
}
