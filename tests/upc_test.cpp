// UPC: values and gradients of the published code for its three consistency terms, gradients by central
// differences, and the method on a tiny problem in 3D and 2D.

#include "methods/upc.hpp"

#include <doctest/doctest.h>

#include "methods/rectified_consistency.hpp"
#include "methods/supervised_loss.hpp"
#include "tests/method_check.hpp"
#include "tests/network_check.hpp"

using namespace semivox;
using namespace semivox::testing;

namespace {

/// Student, teacher and labels of the reference numbers; float32 values like them.
struct Fixture {
  const Shape shape{4, 2, 4, 4, 4};
  const Tensor student = logits(1), teacher = logits(2);
  const Tensor labels = by_formula<uint8_t>(
      shape.with_channels(1), [](int64_t v) { return tag_noise(static_cast<uint32_t>(v), 3) > 0; });

  Tensor logits(uint32_t tag) const {
    return by_formula<double>(
        shape, [&](int64_t i) { return static_cast<float>(4 * tag_noise(static_cast<uint32_t>(i), tag)); });
  }
};

const TinyProblem kVolumes{{.name = "vnet", .filters = 2}, {4, 1, 16, 16, 16}};
const TinyProblem kSlices{{.name = "unet2d", .classes = 4, .filters = 4}, {4, 1, 1, 32, 32}};

}  // namespace

TEST_CASE("upc: thresholded pseudo-labels and distance of logits, numbers of the published code") {
  const Fixture f;
  const Variable z(f.student, true);
  const LossValue supervised = supervised_loss(z.samples(0, 2), f.labels.samples(0, 2), false);
  const LossValue thresholded = confident_pseudo_labels(z, f.teacher, 0.9, 1.0);
  CHECK(thresholded.results.data<double>()[1] == 58);
  // The references have seven digits, computed in float32.
  CHECK(std::abs(thresholded.results.data<double>()[0] - 0.1813136) < 1e-7);
  (supervised.loss + thresholded.loss).backward();
  const std::vector<double> gradient = z.gradient().to_doubles();
  double square = 0;
  for (const double g : gradient) square += g * g;
  CHECK(std::abs(gradient.front() - -0.00356672) < 1e-8);
  CHECK(gradient.back() == 0);
  CHECK(std::abs(std::sqrt(square) - 0.05448728) < 1e-8);
  CHECK(std::abs(logit_distance(Variable(f.student), f.teacher).results.data<double>()[0] - 2.5740764) <
        2e-7);
}

TEST_CASE("upc: the temperature acts on confidence, not on the hard label") {
  const Fixture f;
  const auto confident = [&](double threshold, double temperature) {
    return confident_pseudo_labels(Variable(f.student), f.teacher, threshold, temperature)
        .results.to_doubles();
  };
  CHECK(confident(0.9, 2.0)[1] < 58);
  CHECK(confident(0.9, 0.5)[1] > 58);
  CHECK(confident(0, 1.0)[1] == 256);
  CHECK(confident(0, 3.0) == confident(0, 1.0));
  CHECK(confident(0.99999, 1.0) == std::vector<double>{0, 0});
}

TEST_CASE("upc: gradients of the consistency terms, by central differences") {
  for (const int64_t classes : {2, 4}) {
    const Shape shape{3, classes, 3, 4, 2};
    const Tensor z = by_formula<double>(shape, [](int64_t i) { return 3 * hash_noise(i, 1); });
    const Tensor teacher = by_formula<double>(shape, [](int64_t i) { return 3 * hash_noise(i, 2); });
    const auto check = [&](const char* name, const std::function<LossValue(const Variable&)>& loss) {
      const Variable x(z, true);
      loss(x).loss.backward();
      const auto number = [&] {
        const NoGrad no_grad;
        return loss(Variable(z)).results.data<double>()[0];
      };
      check_gradient(name, z, x.gradient(), number, {.tolerance = 1e-7, .floor = 1e-2});
    };
    check("thresholded", [&](const Variable& x) { return confident_pseudo_labels(x, teacher, 0.8, 1.3); });
    check("logits", [&](const Variable& x) { return logit_distance(x, teacher); });
  }
}

TEST_CASE("upc trains and resumes with every consistency term, in 3D and 2D") {
  for (const char* type : {"rectified", "thresholded", "logits"})
    check_method("upc", {{"consistency_type", type}}, kVolumes);
  check_method("upc", {}, kSlices);
}

TEST_CASE("upc: without noise and dropout, a teacher that equals the student agrees with it") {
  TinyProblem problem = kVolumes;
  problem.network.dropout = 0;
  const auto second_kl = [&](const char* noise) {
    const auto method = build_method("upc", {{"noise", noise}}, problem.setup());
    return term_of(run_steps(*method, problem, 0, 2)[1], "kl");
  };
  CHECK(std::abs(second_kl("0")) < 1e-7);  // the first update copies the student
  CHECK(second_kl("0.2") > 1e-4);          // the student sees the noise, the teacher does not
}

TEST_CASE("upc: the teacher is the mean of all students so far") {
  TinyProblem problem = kVolumes;
  problem.precision = DType::f64;
  const auto method = build_method("upc", {}, problem.setup());
  std::vector<double> mean;
  const int64_t steps = 4;
  for (int64_t t = 0; t < steps; ++t) {
    run_steps(*method, problem, t, t + 1);
    const std::vector<double> student = method->student().parameters().values().to_doubles();
    mean.resize(student.size());
    for (size_t i = 0; i < student.size(); ++i) mean[i] += student[i] / static_cast<double>(steps);
  }
  const std::vector<double> teacher = method->networks()[1].second->parameters().values().to_doubles();
  double worst = 0;
  for (size_t i = 0; i < mean.size(); ++i) worst = std::max(worst, std::abs(teacher[i] - mean[i]));
  CHECK(worst < 1e-14);
}
