// MC-Net and MC-Net+: sharpening, mutual consistency and Dice against numbers of the published code, their
// gradients by central differences, and iterations of both methods in 3D and 2D.
#include "methods/mc_net.hpp"

#include "methods/dice_loss.hpp"
#include "tests/method_check.hpp"
#include "tests/network_check.hpp"

using namespace semivox;
using namespace semivox::testing;

namespace {

/// Element i of the array in PyTorch's order (N, C, D, H, W) is scale * u(i, t).
template <class T>
Tensor tagged(const Shape& shape, double scale, uint32_t t) {
  return by_formula<T>(shape, [&](int64_t i) { return scale * tag_noise(static_cast<uint32_t>(i), t); });
}

const Shape kVolumes{4, 2, 4, 4, 4};

Tensor volume_labels() {
  return by_formula<uint8_t>({2, 1, 4, 4, 4},
                             [](int64_t i) { return tag_noise(static_cast<uint32_t>(i), 3) > 0; });
}

doctest::Approx near(double value, double relative) { return doctest::Approx(value).epsilon(relative); }

double norm(const std::vector<double>& values) {
  double total = 0;
  for (const double v : values) total += v * v;
  return std::sqrt(total);
}

/// lambda (Dice_a + Dice_b) + consistency.
Variable mc_net_loss(const Variable& a, const Variable& b, bool detached = false) {
  const Tensor labels = volume_labels();
  const Variable dice = dice_loss(a.samples(0, 2), labels, kForegroundDice).loss +
                        dice_loss(b.samples(0, 2), labels, kForegroundDice).loss;
  return 0.5 * dice + mutual_consistency({a, b}, 0.1, detached).loss;
}

}  // namespace

TEST_CASE("mc_net: sharpened probabilities and their derivatives") {
  const auto derivative = [](double p, double k) { return sharpen(Dual<double, 1>::variable(p, 0), k).d[0]; };
  CHECK(sharpen(0.3, 10.0) == near(2.0899776e-4, 2e-8));
  CHECK(derivative(0.3, 10) == near(9.9501945e-3, 2e-8));
  CHECK(sharpen(0.5, 10.0) == 0.5);
  CHECK(derivative(0.5, 10) == 10);
  for (const float p : {0.0f, 1e-6f, 1 - 1e-7f, 1.0f}) {
    CHECK(sharpen(p, 10.0) == (p < 0.5f ? 0.0f : 1.0f));
    CHECK(sharpen(Dual<float, 1>::variable(p, 0), 10.0).d[0] == 0.0f);
  }
  for (const double k : {1.0, 10.0 / 3, 10.0, 100.0}) {  // symmetric about 1/2, and finite everywhere
    for (const double p : {0.0, 1e-300, 0.2, 0.45, 0.5}) {
      CAPTURE(p);
      CHECK(sharpen(p, k) + sharpen(1 - p, k) == near(1, 1e-14));
      CHECK(derivative(p, k) == near(derivative(1 - p, k), 1e-12));
    }
    CHECK(derivative(0.0, k) == (k == 1.0 ? 1 : 0));
    const double h = 1e-6, p = 0.43;
    CHECK(derivative(p, k) == near((sharpen(p + h, k) - sharpen(p - h, k)) / (2 * h), 1e-8));
  }
}

TEST_CASE("mc_net: losses and gradients of the published code") {
  const Tensor logits_a = tagged<float>(kVolumes, 4, 1), logits_b = tagged<float>(kVolumes, 4, 2);
  const Variable a(logits_a, true), b(logits_b, true);
  const Tensor labels = volume_labels();
  int64_t foreground = 0;
  for (int64_t i = 0; i < labels.elements(); ++i) foreground += labels.data<uint8_t>()[i];
  CHECK(foreground == 55);
  const double dice = dice_loss(a.samples(0, 2), labels, kForegroundDice).results.to_doubles()[0] +
                      dice_loss(b.samples(0, 2), labels, kForegroundDice).results.to_doubles()[0];
  CHECK(dice == near(1.0418267, 1e-7));
  CHECK(mutual_consistency({a, b}, 0.1, false).results.to_doubles()[0] == near(0.6449625, 1e-7));
  const Variable loss = mc_net_loss(a, b);
  CHECK(loss.value().to_doubles()[0] == near(1.1658759, 1e-7));
  loss.backward();
  const std::vector<double> da = a.gradient().to_doubles(), db = b.gradient().to_doubles();
  CHECK(norm(da) == near(0.05160902, 2e-7));
  CHECK(norm(db) == near(0.05184338, 2e-7));
  // The last element of PyTorch's order is the last in memory, too; likewise the first.
  CHECK(std::abs(da.front() + 0.00011820) < 6e-9);
  CHECK(std::abs(da.back() - 0.00020436) < 6e-9);
  CHECK(std::abs(db.front() + 0.00009803) < 6e-9);
  CHECK(std::abs(db.back() - 0.00059728) < 6e-9);
}

TEST_CASE("mc_net: Dice of the published 2D codes") {
  const Shape slices{2, 4, 1, 8, 8};
  const Variable z(tagged<float>(slices, 4, 4));
  const Tensor labels = by_formula<uint8_t>({2, 1, 1, 8, 8}, [](int64_t i) {
    return std::floor((tag_noise(static_cast<uint32_t>(i), 5) + 0.5) * 4);
  });
  CHECK(dice_loss(z, labels, kHalvedDice).results.to_doubles()[0] == near(0.8371620, 1e-7));
  CHECK(dice_loss(z, labels, kSquaredDice).results.to_doubles()[0] == near(0.6743239, 1e-7));
}

TEST_CASE("mc_net: a class that is neither predicted nor there costs nothing, in 2D a half") {
  Tensor logits = Tensor::zeros({1, 2, 1, 2, 2}, DType::f32, {});
  for (int64_t i = 0; i < logits.elements(); ++i) logits.data<float>()[i] = i % 2 == 0 ? 200.0f : 0.0f;
  const Tensor labels = Tensor::zeros({1, 1, 1, 2, 2}, DType::u8, {});
  CHECK(dice_loss(Variable(logits), labels, kForegroundDice).results.to_doubles()[0] == 0);
  CHECK(dice_loss(Variable(logits), labels, kSquaredDice).results.to_doubles()[0] == near(0, 1e-10));
}

TEST_CASE("mc_net: gradients by central differences, two and three decoders, sharp and detached") {
  const GradientOptions options{.tolerance = 2e-7, .floor = 1e-2};
  const Tensor logits[] = {tagged<double>(kVolumes, 4, 1), tagged<double>(kVolumes, 4, 2),
                           tagged<double>(kVolumes, 4, 7)};
  for (const size_t decoders : {2u, 3u}) {
    std::vector<Variable> z;
    for (size_t i = 0; i < decoders; ++i) z.emplace_back(logits[i], true);
    const auto loss = [&] { return mutual_consistency(z, 0.1, false); };
    loss().loss.backward();
    for (size_t i = 0; i < decoders; ++i) {
      check_gradient(
          text("decoder ", i + 1, " of ", decoders), logits[i], z[i].gradient(),
          [&] { return loss().results.to_doubles()[0]; }, options);
    }
  }
  // Detached: against differences of a loss whose targets stay what they were.
  const Variable a(logits[0], true), b(logits[1], true), fixed_a(logits[0].clone()),
      fixed_b(logits[1].clone());
  mutual_consistency({a, b}, 0.25, true).loss.backward();
  const auto towards = [](const Tensor& z, const Tensor& target) {
    double total = 0;
    for (int64_t v = 0; v < z.elements() / 2; ++v) {
      double p[2], q[2];
      softmax(z.data<double>() + 2 * v, 2, p);
      softmax(target.data<double>() + 2 * v, 2, q);
      for (int c = 0; c < 2; ++c) total += square(p[c] - sharpen(q[c], 4.0));
    }
    return total / static_cast<double>(z.elements());
  };
  check_gradient(
      "detached", logits[0], a.gradient(),
      [&] { return towards(logits[0], fixed_b.value()) + towards(logits[1], fixed_a.value()); }, options);
  CHECK(mutual_consistency({a, b}, 0.25, true).results.to_doubles()[0] ==
        near(mutual_consistency({a, b}, 0.25, false).results.to_doubles()[0], 1e-14));
}

TEST_CASE("dice_loss: gradients by central differences in all forms") {
  const Shape shape{2, 3, 1, 4, 5};
  const Tensor logits = tagged<double>(shape, 4, 11);
  const Tensor labels = by_formula<uint8_t>(shape.with_channels(1), [](int64_t i) { return i * i % 3; });
  for (const DiceForm& form : {kForegroundDice, kSquaredDice, kHalvedDice}) {
    const Variable z(logits, true);
    dice_loss(z, labels, form).loss.backward();
    check_gradient("dice", logits, z.gradient(),
                   [&] { return dice_loss(Variable(logits), labels, form).results.to_doubles()[0]; },
                   {.tolerance = 1e-7, .floor = 1e-2});
  }
}

TEST_CASE("mc_net, mc_net_plus: iterations repeat and resume bit for bit, in 3D and 2D") {
  TinyProblem problem{{.name = "mc_net", .filters = 2}, {4, 1, 16, 16, 16}};
  const std::map<std::string, std::string> at_once{
      {"rampup_length", "0"}};  // else the loss rises with the weight
  check_method("mc_net", at_once, problem);
  problem.network.name = "mc_net_plus";
  const std::vector<StepReport> reports = check_method("mc_net_plus", at_once, problem);
  CHECK(term_of(reports[0], "loss_dice") > 1);  // three decoders
  check_method("mc_net_plus", {{"dice", "2d"}, {"dice_weight", "1"}, {"consistency", "0.1"}},
               {{.name = "mc_net_plus_2d", .classes = 4, .filters = 2}, {4, 1, 1, 32, 32}});
}

TEST_CASE("mc_net: the consistency weight ramps up, the loss is the weighted sum") {
  const TinyProblem problem{{.name = "mc_net", .filters = 2}, {4, 1, 16, 16, 16}};
  const auto method = build_method("mc_net", {{"rampup_unit", "1"}, {"rampup_length", "4"}}, problem.setup());
  const std::vector<StepReport> reports = run_steps(*method, problem, 0, 4);
  CHECK(term_of(reports[0], "consistency_weight") == near(std::exp(-5 * 9.0 / 16), 1e-12));
  CHECK(term_of(reports[3], "consistency_weight") == 1);
  for (const StepReport& report : reports) {
    const double consistency = term_of(report, "loss_consistency");
    CHECK(consistency > 0);
    CHECK(term_of(report, "loss") ==
          near(0.5 * term_of(report, "loss_dice") + term_of(report, "consistency_weight") * consistency,
               1e-12));
  }
}

TEST_CASE("mc_net: Dice falls, and without dropout nothing is random") {
  TinyProblem problem{{.name = "mc_net", .filters = 2, .dropout = 0}, {4, 1, 16, 16, 16}};
  CHECK_FALSE(is_random("mc_net", {}, problem));
  problem.network.filters = 4;
  const auto method = build_method("mc_net", {}, problem.setup());
  const std::vector<StepReport> reports = run_steps(*method, problem, 0, 11);
  CHECK(term_of(reports[10], "loss_dice") < 0.8 * term_of(reports[0], "loss_dice"));
}

TEST_CASE("mc_net: another network is refused") {
  CHECK_THROWS_WITH_AS(
      build_method("mc_net_plus", {}, TinyProblem{{.name = "mc_net"}, {}}.setup()),
      "--network: found 'mc_net', expected one of mc_net_plus, mc_net_plus_2d for method mc_net_plus",
      UsageError);
}
