// CVBM: its losses and a few iterations. Numbers are those of the published code, in f64.

#include <doctest/doctest.h>

#include "kernels/mixing.hpp"
#include "methods/bcp.hpp"
#include "methods/cvbm.hpp"
#include "tests/two_phase_check.hpp"

using namespace semivox;
using namespace semivox::testing;

namespace {

doctest::Approx near(double value) { return doctest::Approx(value).epsilon(1e-9); }

/// scale * sin(a i + b)
double wave(int64_t i, double a, double b, double scale = 1) {
  return scale * std::sin(a * static_cast<double>(i) + b);
}
Tensor waves(const Shape& shape, double a, double b) {
  return by_formula<double>(shape, [=](int64_t i) { return wave(i, a, b, 2); });
}

/// Two classes in 3D.
struct Volumes {
  const Shape shape{2, 2, 4, 4, 3};
  const Tensor z = waves(shape, 0.7, 0.1), z_background = waves(shape, 0.9, 0.4),
               z_mixed = waves(shape, 1.1, 0.2);
  const Tensor outer =
      by_formula<uint8_t>(shape.with_channels(1), [](int64_t i) { return wave(i, 0.3, 0) > 0; });
  const Tensor inner =
      by_formula<uint8_t>(shape.with_channels(1), [](int64_t i) { return wave(i, 0.5, 1) > 0; });
  const Tensor mask = kernels::box_mask({4, 4, 3}, {{{1, 0, 1}, {3, 2, 3}}}, {});
};

/// Four classes in 2D.
struct Slices {
  const Shape shape{2, 4, 1, 5, 6};
  const Tensor z = waves(shape, 0.7, 0.1);
  const Tensor outer = by_formula<uint8_t>(shape.with_channels(1), [](int64_t i) { return 7 * i % 4; });
  const Tensor inner = by_formula<uint8_t>(shape.with_channels(1), [](int64_t i) { return 5 * i % 4; });
  const Tensor mask = kernels::box_mask({1, 5, 6}, {{{0, 1, 2}, {1, 4, 5}}}, {});

  std::vector<double> background(double outer_weight, double inner_weight, bool twice = true) const {
    return background_loss(Variable(z), {outer, false}, {inner, true}, mask,
                           {outer_weight, inner_weight, twice})
        .results.to_doubles();
  }
};

/// Gradients of a loss by all its inputs, against central differences.
void check_gradients(const std::string& name, const std::vector<Tensor>& inputs,
                     const std::function<LossValue(const std::vector<Variable>&)>& loss) {
  std::vector<Variable> leaves;
  for (const Tensor& input : inputs) leaves.emplace_back(input, true);
  loss(leaves).loss.backward();
  for (size_t i = 0; i < inputs.size(); ++i) {
    check_gradient(text(name, ", input ", i), inputs[i], leaves[i].gradient(),
                   [&] {
                     const NoGrad no_grad;
                     return loss({inputs.begin(), inputs.end()}).results.data<double>()[0];
                   },
                   {.tolerance = 1e-7, .floor = 1e-2});
  }
}

const std::map<std::string, std::string> kSliceOptions{
    {"dice_squared", "true"}, {"dice_unmasked_background", "true"},
    {"ema_buffers", "true"},  {"keep_momentum", "true"},
    {"consistency", "0.5"},   {"rampup_length", "200"},
    {"region_weight", "2"},   {"pretrain_loss", "regions"}};

TwoPhaseProblem slices(int64_t classes) {
  return {{{.name = "cvbm_2d", .classes = classes, .filters = 2}, {4, 1, 1, 32, 16}}};
}
TwoPhaseProblem volumes() { return {{{.name = "cvbm", .filters = 2}, {4, 1, 32, 16, 32}}}; }

}  // namespace

TEST_CASE("CVBM in 3D: the region loss and its gradient, Dice of the softmax taken twice") {
  const Volumes f;
  const Variable z(f.z, true);
  const LossValue loss = bcp_loss(z, f.outer, f.inner, f.mask, {1, 0.5, false, false, false});
  const std::vector<double> r = loss.results.to_doubles();
  CHECK(r[0] == near(1.2854492430));
  CHECK(r[1] == near(1.7972113140));
  CHECK(r[2] == near(0.7736871720));
  loss.loss.backward();
  double total = 0;
  for (const double g : z.gradient().to_doubles()) total += std::abs(g);
  CHECK(total == near(0.8561298281));
  CHECK(bcp_loss(z, f.outer, f.inner, f.mask, {0.5, 1, false, false, false}).results.to_doubles()[0] ==
        near(1.3163431836));

  const Tensor everywhere = kernels::box_mask({4, 4, 3}, {}, {});
  const auto whole = [&](bool twice) {
    return bcp_loss(z, f.outer, f.outer, everywhere, {1, 0, false, false, twice}).results.to_doubles();
  };
  CHECK(whole(true)[2] == near(0.4978977158));
  CHECK(whole(false)[2] == near(0.4928509031));
  CHECK(whole(true)[1] == whole(false)[1]);  // CE has the softmax once
}

TEST_CASE("CVBM: inverse and direct consistency") {
  const Volumes f;
  const Variable z(f.z), background(f.z_background), mixed(f.z_mixed);
  CHECK(probability_distance(z, background, true).results.to_doubles()[0] == near(0.1741168951));
  CHECK(probability_distance(mixed, z, false).results.to_doubles()[0] == near(0.2960244335));
  // For two classes softmax(-z) is softmax(z) with the channels exchanged.
  const Tensor exchanged = f.z_background.clone();
  double* e = exchanged.data<double>();
  for (int64_t i = 0; i < exchanged.elements(); i += 2) std::swap(e[i], e[i + 1]);
  CHECK(probability_distance(z, Variable(exchanged), false).results.to_doubles()[0] == near(0.1741168951));
}

TEST_CASE("CVBM in 2D: foreground and background losses of four classes") {
  const Slices f;
  const auto foreground = [&](double outer_weight, double inner_weight) {
    return bcp_loss(Variable(f.z), f.outer, f.inner, f.mask, {outer_weight, inner_weight, true, true, false})
        .results.to_doubles();
  };
  CHECK(foreground(1, 0.5)[2] == near(1.0215246508));
  CHECK(foreground(1, 0.5)[1] == near(3.3318323445));
  CHECK(foreground(0.5, 1)[2] == near(1.0129986368));
  CHECK(foreground(0.5, 1)[1] == near(3.4542298432));
  CHECK(f.background(1, 0.5)[2] == near(0.9843086563));
  CHECK(f.background(1, 0.5)[1] == near(1.2970752329));
  CHECK(f.background(0.5, 1)[2] == near(1.1021255762));
  CHECK(f.background(0.5, 1)[1] == near(0.9925402373));
  const std::vector<double> r = f.background(1, 0.5);
  CHECK(r[0] == near(0.5 * (r[1] + r[2])));
}

TEST_CASE("CVBM: the background's loss of two classes with softmax once is CE against the complement") {
  // C = 2: T_c = [y != c] is the one-hot map of [y == 0], and 1/C halves CE.
  const Volumes f;
  const Tensor everywhere = kernels::box_mask({4, 4, 3}, {}, {});
  const BackgroundTarget target{f.outer, false};
  const double ce =
      background_loss(Variable(f.z), target, target, everywhere, {1, 0, false}).results.to_doubles()[1];
  const Tensor background = background_of(f.outer);
  const double bcp = bcp_loss(Variable(f.z), background, background, everywhere, {1, 0, true, false, false})
                         .results.to_doubles()[1];
  CHECK(ce == near(bcp / 2));
}

TEST_CASE("CVBM: gradients of the losses by central differences") {
  const Slices s;
  for (const bool twice : {false, true}) {
    for (const bool scaled : {false, true}) {
      check_gradients("background", {s.z}, [&](const std::vector<Variable>& z) {
        return background_loss(z[0], {s.outer, scaled}, {s.inner, !scaled}, s.mask, {0.5, 1, twice});
      });
    }
  }
  const Volumes v;
  for (const bool squares : {false, true}) {
    check_gradients("Dice of the softmax twice", {v.z}, [&](const std::vector<Variable>& z) {
      return bcp_loss(z[0], v.outer, v.inner, v.mask, {1, 0.5, squares, false, true});
    });
  }
  for (const bool inverse : {false, true}) {
    check_gradients("two classes", {v.z, v.z_background}, [&](const std::vector<Variable>& z) {
      return probability_distance(z[0], z[1], inverse);
    });
    check_gradients("four classes", {s.z, waves(s.shape, 0.9, 0.4)}, [&](const std::vector<Variable>& z) {
      return probability_distance(z[0], z[1], inverse);
    });
  }
}

TEST_CASE("CVBM: both phases, in 3D and 2D") {
  const std::vector<StepReport> reports = check_two_phases("cvbm", {}, volumes());
  CHECK(reports[0].size() == 3);
  CHECK(reports[5].size() == 6);
  check_two_phases("cvbm", kSliceOptions, slices(4));
  check_two_phases("cvbm", {{"bg_pseudo", "complement"}, {"softmax_twice", "false"}}, slices(4));
  check_two_phases("cvbm", {{"bg_pseudo", "complement"}}, slices(2));
}

TEST_CASE("CVBM: the loss is the weighted sum of its terms, the weight ramps up") {
  std::map<std::string, std::string> options = kSliceOptions;
  const StepReport report = first_selftraining("cvbm", options, slices(4));
  const double w = 0.5 * std::exp(-5.0);
  CHECK(term_of(report, "consistency_weight") == doctest::Approx(w).epsilon(1e-14));
  const double sum = 2 * term_of(report, "loss_foreground") + 2 * term_of(report, "loss_background") +
                     w * (term_of(report, "loss_inverse") + term_of(report, "loss_direct"));
  CHECK(report[0].second == doctest::Approx(sum).epsilon(1e-12));
  options["rampup_length"] = "0";
  CHECK(term_of(first_selftraining("cvbm", options, slices(4)), "consistency_weight") == 0.5);
}

TEST_CASE("CVBM: the background's pseudo-labels act on its own loss alone") {
  const auto report = [](const std::string& pseudo) {
    return first_selftraining("cvbm", {{"bg_pseudo", pseudo}}, slices(4));
  };
  const StepReport official = report("official"), complement = report("complement");
  CHECK(term_of(official, "loss_background") != term_of(complement, "loss_background"));
  for (const char* term : {"loss_foreground", "loss_inverse", "loss_direct"})
    CHECK(term_of(official, term) == term_of(complement, term));
}

TEST_CASE("CVBM: boxes whose corners are drawn from a given range are cut at the patch's edge") {
  const auto loss = [](const std::string& range) {
    return first_selftraining("cvbm", {{"mask_range", range}}, slices(4))[0].second;
  };
  CHECK(std::isfinite(loss("1,32,16")));
  CHECK_THROWS_WITH_AS(loss("1,33,16"), "mask_range: found 33 on axis 1, expected 1 to 32 (the patch)",
                       UsageError);
  CHECK_THROWS_WITH_AS(loss("48"), "option mask_range: found '48', expected three integers as 3,4,2, or auto",
                       UsageError);
  // A range of one position is a box at the corner.
  const auto fixed = first_selftraining("cvbm", {{"mask_corner", "0,0,0"}}, slices(4));
  CHECK(loss("1,1,1") == fixed[0].second);
}

TEST_CASE("CVBM: wrong networks") {
  CHECK_THROWS_WITH_AS(require_network(find_method("cvbm"), "vnet", "--network"),
                       "--network: found 'vnet', expected one of cvbm, cvbm_2d for method cvbm", UsageError);
}
