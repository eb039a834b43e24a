// Interpolation consistency training: the published code's consistency, its gradient, mixing, the Beta
// distribution, and the method on tiny problems.

#include "methods/ict.hpp"

#include <doctest/doctest.h>

#include "kernels/interpolate_samples.hpp"
#include "kernels/uncertainty.hpp"
#include "tests/method_check.hpp"

using namespace semivox;
using namespace semivox::testing;

namespace {

const TinyProblem kVolumes{{.name = "unet3d", .filters = 2}, {4, 1, 32, 16, 16}};
const TinyProblem kSlices{{.name = "unet2d", .classes = 4, .filters = 4}, {8, 1, 1, 32, 32}};

}  // namespace

TEST_CASE("ict: the published code's consistency") {
  const Shape shape{4, 2, 3, 3, 3};
  const Variable student(
      by_formula<double>(shape, [](int64_t i) { return std::sin(0.1 * static_cast<double>(i)); }));
  const Tensor teacher =
      by_formula<double>(shape, [](int64_t i) { return 0.8 * std::cos(0.13 * static_cast<double>(i)); });
  const Tensor target = kernels::interpolate_samples(kernels::softmax(teacher.samples(2, 1)),
                                                     kernels::softmax(teacher.samples(3, 1)), {0.3});
  CHECK(std::abs(distance_to_target(student.samples(2, 1), target).results.data<double>()[0] - 0.011050235) <
        5e-10);
}

TEST_CASE("ict: the gradient of the consistency, by central differences") {
  for (const int64_t classes : {2, 4}) {
    const Shape shape{3, classes, 3, 4, 2};
    const Tensor z = by_formula<double>(shape, [](int64_t i) { return 3 * hash_noise(i, 1); });
    const Tensor target =
        kernels::softmax(by_formula<double>(shape, [](int64_t i) { return 3 * hash_noise(i, 2); }));
    const Variable x(z, true);
    distance_to_target(x, target).loss.backward();
    const auto number = [&] {
      const NoGrad no_grad;
      return distance_to_target(Variable(z), target).results.data<double>()[0];
    };
    check_gradient("consistency", z, x.gradient(), number, {.tolerance = 1e-7, .floor = 1e-2});
  }
}

TEST_CASE("ict: every sample is mixed by its own share") {
  const Shape shape{3, 2, 1, 2, 2};
  for (const DType dtype : {DType::f32, DType::f64}) {
    const bool narrow = dtype == DType::f32;
    const auto a = [](int64_t i) { return static_cast<double>(i); };
    const auto b = [](int64_t i) { return 100.0 + 3.0 * static_cast<double>(i); };
    const Tensor ta = narrow ? by_formula<float>(shape, a) : by_formula<double>(shape, a);
    const Tensor tb = narrow ? by_formula<float>(shape, b) : by_formula<double>(shape, b);
    const std::vector<double> shares{0, 0.25, 1};  // exact in both types
    const std::vector<double> mixed =
        kernels::interpolate_samples(ta, tb, {shares.begin(), shares.end()}).to_doubles();
    for (int64_t i = 0; i < shape.elements(); ++i) {
      const double share = shares[static_cast<size_t>(i / 8)];
      CHECK(mixed[static_cast<size_t>(channels_last(shape, i))] == (1 - share) * a(i) + share * b(i));
    }
  }
}

TEST_CASE("ict: shares follow the Beta distribution") {
  // Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)).
  for (const double alpha : {0.01, 0.2, 1.0}) {
    CAPTURE(alpha);
    const int count = 20000;
    double mean = 0, square = 0, fourth = 0;
    for (int k = 0; k < count; ++k) {
      const double g = draw_beta(alpha, {7, 3, static_cast<uint64_t>(k)});
      CHECK_UNARY(g >= 0 && g <= 1);
      mean += g / count;
      square += (g - 0.5) * (g - 0.5) / count;
      fourth += std::pow(g - 0.5, 4) / count;
    }
    const double variance = 0.25 / (2 * alpha + 1);
    const double four_sigma = 4 * std::sqrt(variance / count);
    CHECK(std::abs(mean - 0.5) < four_sigma);
    CHECK(std::abs(square - variance) < 4 * std::sqrt((fourth - variance * variance) / count));
  }
}

TEST_CASE("ict trains and resumes, in 3D and 2D") {
  check_method("ict", {}, kVolumes);
  const std::vector<StepReport> reports = check_method("ict", {{"mix", "0.25"}}, kSlices);
  for (const StepReport& report : reports) CHECK(term_of(report, "mix") == 0.25);
}

TEST_CASE("ict: an unmixed image and a teacher that equals the student agree") {
  TinyProblem problem = kVolumes;  // instance norm: how samples are batched does not matter
  problem.network.dropout = 0;
  const auto second = [&](const char* mix) {
    const auto method = build_method("ict", {{"mix", mix}}, problem.setup());
    return term_of(run_steps(*method, problem, 0, 2)[1], "loss_consistency");
  };
  CHECK(second("0") < 1e-10);  // the first update copies the student
  CHECK(second("1") < 1e-10);
  CHECK(second("0.5") > 1e-6);
}

TEST_CASE("ict: wrong options and batches") {
  const auto setup = [](int64_t batch) {
    MethodSetup made;
    made.batch = batch;
    return made;
  };
  const auto phases = [&](int64_t batch) {
    OptionReader reader;
    return find_method("ict").make(reader)->phases(setup(batch))[0];
  };
  CHECK(phases(4).unlabeled == 2);
  CHECK(phases(3).labeled == 1);
  CHECK_THROWS_WITH_AS(
      phases(6),
      "--batch: found 6 with 3 unlabelled, expected an even number of them: they are mixed in pairs",
      UsageError);
  for (const char* wrong : {"1.5", "half", ""}) {
    OptionReader reader(std::map<std::string, std::string>{{"mix", wrong}});
    CHECK_THROWS_WITH_AS(find_method("ict").make(reader),
                         doctest::Contains("expected a number from 0 to 1, or random"), UsageError);
  }
}
