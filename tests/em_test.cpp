// Entropy minimisation: the published code's entropy, its gradient, and the method on tiny problems.

#include "methods/em.hpp"

#include <doctest/doctest.h>

#include "methods/supervised_loss.hpp"
#include "tests/method_check.hpp"

using namespace semivox;
using namespace semivox::testing;

namespace {

/// The reference's logits: sin(0.1 i), two labelled and two unlabelled samples.
const Shape kShape{4, 2, 3, 3, 3};
Tensor reference_logits() {
  return by_formula<double>(kShape, [](int64_t i) { return std::sin(0.1 * static_cast<double>(i)); });
}

}  // namespace

TEST_CASE("em: the published code's entropy and supervised loss") {
  const Tensor z = reference_logits();
  const Tensor labels = by_formula<uint8_t>(kShape.with_channels(1), [](int64_t v) { return v % 3 == 0; });
  CHECK(std::abs(normalized_entropy(Variable(z)).results.data<double>()[0] - 0.743002525) < 5e-10);
  const Variable labeled = Variable(z).samples(0, 2);
  CHECK(std::abs(supervised_loss(labeled, labels.samples(0, 2), true).results.data<double>()[0] -
                 0.556699223) < 5e-10);
}

TEST_CASE("em: from 0 for certainty to 1 for indifference, for any number of classes") {
  for (const int64_t classes : {2, 3, 4}) {
    const Shape shape{2, classes, 2, 3, 2};
    const auto entropy = [&](double scale) {
      const Tensor z =
          by_formula<double>(shape, [&](int64_t i) { return i / 12 % classes == 1 ? scale : 0.0; });
      return normalized_entropy(Variable(z)).results.data<double>()[0];
    };
    CHECK(std::abs(entropy(0) - 1) < 5e-6);  // the 1e-6 in the logarithm takes a little
    CHECK(std::abs(entropy(60)) < 2e-6);
  }
}

TEST_CASE("em: the gradient of the entropy, by central differences") {
  for (const int64_t classes : {2, 4}) {
    const Tensor z =
        by_formula<double>({3, classes, 3, 4, 2}, [](int64_t i) { return 3 * hash_noise(i, 1); });
    const Variable x(z, true);
    normalized_entropy(x).loss.backward();
    const auto number = [&] {
      const NoGrad no_grad;
      return normalized_entropy(Variable(z)).results.data<double>()[0];
    };
    check_gradient("entropy", z, x.gradient(), number, {.tolerance = 1e-7, .floor = 1e-2});
  }
}

TEST_CASE("em trains and resumes, in 3D and 2D") {
  check_method("em", {}, {{.name = "unet3d", .filters = 2}, {4, 1, 32, 16, 16}});
  check_method("em", {}, {{.name = "unet2d", .classes = 4, .filters = 4}, {4, 1, 1, 32, 32}});
}

TEST_CASE("em: a heavy weight makes the network sure") {
  const TinyProblem problem{{.name = "unet2d", .classes = 4, .filters = 4, .dropout = 0}, {4, 1, 1, 32, 32}};
  const auto last_entropy = [&](const char* weight) {
    const auto method =
        build_method("em", {{"consistency", weight}, {"rampup_length", "0"}}, problem.setup());
    return term_of(run_steps(*method, problem, 0, problem.iterations).back(), "loss_entropy");
  };
  CHECK(last_entropy("10") < 0.6 * last_entropy("0"));
}
