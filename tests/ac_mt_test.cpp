// AC-MT: masks, losses and gradients of the published code for its four strategies, and iterations.

#include "methods/ac_mt.hpp"

#include <doctest/doctest.h>

#include "kernels/confident_learning.hpp"
#include "kernels/prototypes.hpp"
#include "kernels/resize.hpp"
#include "kernels/uncertainty.hpp"
#include "methods/ambiguity.hpp"
#include "methods/schedule.hpp"
#include "tests/method_check.hpp"
#include "tests/network_check.hpp"

using namespace semivox;
using namespace semivox::testing;

namespace {

constexpr Shape kShape{2, 2, 8, 8, 8};

/// Numbers scale * u(i, tag) in f32, as the reference numbers were made, computed with in f64.
Tensor fill(const Shape& shape, double scale, uint32_t tag) {
  return by_formula<double>(
      shape, [&](int64_t i) { return static_cast<float>(scale * tag_noise(static_cast<uint32_t>(i), tag)); });
}

/// The reference's two samples are unlabelled. Two labelled ones go before them whose logits are the
/// reference's labelled fixture: the same logits with labels.
struct Fixture {
  Tensor student = fill(kShape, 4, 1), noisy_teacher = fill(kShape, 4, 2), clean_teacher = fill(kShape, 4, 4);
  Tensor labels = by_formula<uint8_t>(kShape.with_channels(1),
                                      [](int64_t i) { return tag_noise(static_cast<uint32_t>(i), 3) > 0; });
  Tensor logits = Tensor::empty(kShape.with_samples(4), DType::f64, {});

  Fixture() {
    logits.samples(0, 2).copy_from(student);
    logits.samples(2, 2).copy_from(student);
  }

  LossValue loss(const Variable& z, const Tensor& mask, const AcMtLossOptions& options) const {
    return ac_mt_loss(z, labels, noisy_teacher, mask, options);
  }
};

/// Gradient of the unlabelled terms by the unlabelled logits: length and first element.
std::pair<double, double> unlabeled_gradient(const Fixture& f, const Tensor& mask, AcMtLossOptions options) {
  options.lambda = 1;
  const Variable z(f.logits, true);
  f.loss(z, mask, options).loss.backward();
  const std::vector<double> g = z.gradient().to_doubles();
  double total = 0;
  for (size_t i = g.size() / 2; i < g.size(); ++i) total += g[i] * g[i];
  return {std::sqrt(total), g[g.size() / 2]};
}

doctest::Approx near(double value, double relative) { return doctest::Approx(value).epsilon(relative); }

double threshold(int64_t t, double rise) {
  return 0.75 + rise * sigmoid_rampup(static_cast<double>(t), 8000);
}

}  // namespace

TEST_CASE("ac_mt: supervised loss of the published code") {
  const Fixture f;
  CHECK(f.loss(Variable(f.logits), {}, {.lambda = 0}).results.data<double>()[0] == near(0.6894043, 1e-7));
}

TEST_CASE("ac_mt, ent: masks, losses and gradients of the published code") {
  const Fixture f;
  struct Row {
    int64_t t;
    double threshold, voxels, loss, gradient;
  };
  for (const Row& row :
       {Row{0, 0.7513476, 553, 0.1060895, 8.599165e-3}, Row{4000, 0.8073010, 490, 0.1006047, 9.183552e-3}}) {
    CAPTURE(row.t);
    CHECK(threshold(row.t, 0.2) == near(row.threshold, 1e-7));
    const Tensor mask = entropy_mask(kernels::softmax(f.student), threshold(row.t, 0.2) * std::log(2.0));
    const std::vector<double> r = f.loss(Variable(f.logits), mask, {.lambda = 1}).results.to_doubles();
    CHECK(r[5] == row.voxels);
    CHECK(r[3] == near(row.loss, 5e-7));
    CHECK(r[4] == 0);
    CHECK(r[0] == near(0.6894043 + row.loss, 2e-7));
    CHECK(unlabeled_gradient(f, mask, {}).first == near(row.gradient, 1e-7));
  }
}

TEST_CASE("ac_mt, mu: masks, losses and gradients of the published code") {
  const Fixture f;
  Tensor mean = Tensor::zeros(kShape, DType::f64, {});
  for (uint32_t k = 0; k < 8; ++k) kernels::accumulate_softmax(fill(kShape, 4, 10 + k), 1, 1.0 / 8, mean);
  struct Row {
    int64_t t;
    double threshold, voxels, loss, gradient;
  };
  for (const Row& row : {Row{0, 0.5205609, 1017, 0.3139820, 1.0737565e-2},
                         Row{8000, 0.6238325, 947, 0.3180337, 1.1148876e-2}}) {
    CAPTURE(row.t);
    CHECK(threshold(row.t, 0.15) * std::log(2.0) == near(row.threshold, 1e-7));
    const Tensor mask = entropy_mask(mean, threshold(row.t, 0.15) * std::log(2.0));
    const AcMtLossOptions by_voxels{.lambda = 1, .count_per_class = false};
    const std::vector<double> r = f.loss(Variable(f.logits), mask, by_voxels).results.to_doubles();
    CHECK(r[5] == row.voxels);
    CHECK(r[3] == near(row.loss, 2e-7));
    CHECK(unlabeled_gradient(f, mask, by_voxels).first == near(row.gradient, 1e-7));
  }
}

TEST_CASE("ac_mt, perr: prototypes, masks, losses and gradients of the published code") {
  const Fixture f;
  PassStatistics passes(2);
  for (uint32_t k = 0; k < 10; ++k) {
    Tensor logits = fill(kShape, 2, 20 + k);
    for (int64_t i = 0; i < logits.elements(); ++i)
      logits.data<double>()[i] =
          static_cast<float>(logits.data<double>()[i] + f.clean_teacher.data<double>()[i]);
    passes.add(logits, fill({2, 3, 4, 4, 4}, 1, 40 + k));
  }
  int certain = 0;
  for (const double squares : passes.squared_deviations().to_doubles())
    certain += std::sqrt(squares / 9) < 0.1;
  CHECK(certain == 2047);
  const Tensor p = kernels::softmax(f.clean_teacher);
  const auto count = [](const Tensor& mask) {
    const std::vector<double> values = mask.to_doubles();
    return std::count(values.begin(), values.end(), 1.0);
  };
  const Tensor rectified = rectified_labels(p, passes, 0.1);
  CHECK(count(rectified) == 509);
  const Tensor prototypes = kernels::class_prototypes(p, rectified, passes.features());
  const std::vector<double> q = prototypes.to_doubles();  // (N, C, F)
  const double expected[] = {-0.0126873, -0.0104636, 0.0180389, -0.0105975, -0.0117653, 0.0129011,
                             0.0027593,  0.0042121,  0.0124842, -0.0095047, 0.0106002,  0.0055966};
  for (size_t i = 0; i < 12; ++i) CHECK(std::abs(q[i] - expected[i]) < 1e-7);
  const Tensor nearest = kernels::nearest_prototypes(passes.features(), prototypes, {8, 8, 8});
  CHECK(count(nearest) == 531);
  const Tensor mask = disagreement(kernels::hard_labels(f.student, false), nearest);
  CHECK(count(mask) == 489);

  const auto results = [&](EntropyTerm entropy) {
    return f.loss(Variable(f.logits), mask, {.lambda = 1, .entropy = entropy}).results.to_doubles();
  };
  CHECK(results(EntropyTerm::none)[3] == near(0.1471873, 2e-7));
  CHECK(results(EntropyTerm::none)[4] == 0);
  CHECK(results(EntropyTerm::shared)[4] == near(0.3725383, 2e-7));
  CHECK(results(EntropyTerm::own)[4] == near(0.3742389, 2e-7));
  CHECK(results(EntropyTerm::own)[0] == near(0.6894043 + 0.1471873 + 0.3742389, 2e-7));
  const auto [length, first] = unlabeled_gradient(f, mask, {.entropy = EntropyTerm::shared});
  CHECK(length == near(9.349194e-3, 1e-7));
  CHECK(first == near(-4.982302e-5, 1e-6));
}

TEST_CASE("ac_mt, serr: loss of the published code; without a mask every voxel counts") {
  const Fixture f;
  Tensor teacher = Tensor::empty(kShape, DType::f32, {});
  for (int64_t i = 0; i < teacher.elements(); ++i) {
    teacher.data<float>()[i] = 0.5f * static_cast<float>(f.student.data<double>()[i]) +
                               static_cast<float>(f.clean_teacher.data<double>()[i]);
  }
  const std::optional<Tensor> mask = kernels::label_issues(
      kernels::softmax(teacher), kernels::hard_labels(f.student, false), kernels::LabelIssues::both);
  REQUIRE(mask.has_value());
  const std::vector<double> r = f.loss(Variable(f.logits), *mask, {}).results.to_doubles();
  CHECK(r[5] == 317);
  CHECK(r[3] == near(0.1552000, 4e-7));
  double plain = 0;
  const std::vector<double> p = kernels::softmax(f.student).to_doubles(),
                            q = kernels::softmax(f.noisy_teacher).to_doubles();
  for (size_t i = 0; i < p.size(); ++i)
    plain += (p[i] - q[i]) * (p[i] - q[i]) / static_cast<double>(p.size());
  const std::vector<double> all = f.loss(Variable(f.logits), {}, {}).results.to_doubles();
  CHECK(all[3] == near(plain, 1e-13));
  CHECK(all[5] == 1024);
  const Tensor nothing = Tensor::zeros(kShape.with_channels(1), DType::u8, {});
  CHECK(f.loss(Variable(f.logits), nothing, {}).results.to_doubles()[3] == 0);
}

TEST_CASE("ac_mt: gradients by central differences") {
  for (const int64_t classes : {2, 4}) {
    const Shape shape{4, classes, 3, 4, 2};
    const Tensor z = random_tensor(shape, 1), teacher = random_tensor(shape.with_samples(3), 2);
    const Tensor labels = by_formula<uint8_t>({1, 1, 3, 4, 2}, [&](int64_t i) { return i % classes; });
    const Tensor mask = by_formula<uint8_t>({3, 1, 3, 4, 2}, [](int64_t i) { return i % 5 < 2; });
    for (const EntropyTerm entropy : {EntropyTerm::none, EntropyTerm::own, EntropyTerm::shared}) {
      for (const bool flag : {false, true}) {
        const AcMtLossOptions options{0.7, flag, entropy, flag};
        const Variable leaf(z, true);
        ac_mt_loss(leaf, labels, teacher, mask, options).loss.backward();
        const auto number = [&] {
          const NoGrad no_grad;
          return ac_mt_loss(Variable(z), labels, teacher, mask, options).results.data<double>()[0];
        };
        check_gradient("ac_mt", z, leaf.gradient(), number, {.tolerance = 1e-7, .floor = 1e-2});
      }
    }
  }
}

TEST_CASE("prototypes: the same as from features at full resolution, several classes, in 2D") {
  const Shape fine{2, 3, 1, 12, 8}, coarse{2, 5, 1, 6, 4};
  const Tensor features = random_tensor(coarse, 1), p = kernels::softmax(random_tensor(fine, 2));
  const Tensor labels = by_formula<uint8_t>(fine.with_channels(1), [](int64_t i) { return i * i % 3; });
  const std::vector<double> full =  // (N, V, F)
      kernels::resize(features, {1, 12, 8}, kernels::Interpolation::linear).to_doubles();
  const Tensor prototypes = kernels::class_prototypes(p, labels, features);
  const Tensor nearest = kernels::nearest_prototypes(features, prototypes, {1, 12, 8});
  const auto V = static_cast<size_t>(fine.voxels());
  for (size_t n = 0; n < 2; ++n) {
    double q[3][5] = {};
    for (size_t c = 0; c < 3; ++c) {
      double total = 1e-5;
      for (size_t v = 0; v < V; ++v) {
        if (labels.data<uint8_t>()[n * V + v] != c) continue;
        const double weight = p.data<double>()[(n * V + v) * 3 + c];
        total += weight;
        for (size_t k = 0; k < 5; ++k) q[c][k] += weight * full[(n * V + v) * 5 + k];
      }
      for (size_t k = 0; k < 5; ++k) {
        q[c][k] /= total;
        CHECK(prototypes.data<double>()[(n * 3 + c) * 5 + k] == near(q[c][k], 1e-12));
      }
    }
    for (size_t v = 0; v < V; ++v) {
      double distance[3] = {};
      for (size_t c = 0; c < 3; ++c) {
        for (size_t k = 0; k < 5; ++k) distance[c] += std::pow(full[(n * V + v) * 5 + k] - q[c][k], 2);
      }
      CHECK(nearest.data<uint8_t>()[n * V + v] == std::min_element(distance, distance + 3) - distance);
    }
  }
}

TEST_CASE("ac_mt: feature maps of the networks that perr reads") {
  const NoGrad no_grad;
  for (const auto& [name, expected] : std::vector<std::pair<std::string, Shape>>{
           {"vnet", {2, 8, 8, 16, 8}}, {"unet2d", {2, 8, 1, 8, 16}}, {"unet3d", {2, 64, 1, 2, 1}}}) {
    CAPTURE(name);
    const auto network = make_network({.name = name, .filters = 4, .dropout = 0});
    network->allocate(DType::f32, {}, false);
    fill_by_tags(network->parameters());
    const Variable x(
        tagged_image(name == "unet2d" ? Shape{2, 1, 1, 16, 32} : Shape{2, 1, 16, 32, 16}, DType::f32));
    const NetworkOutput output = network->forward_all(x, {});
    CHECK(output.features.shape() == expected);
    CHECK(output.logits.value().to_doubles() == network->forward(x, {}).value().to_doubles());
  }
}

TEST_CASE("ac_mt: iterations by every strategy, the same again, and resumed") {
  for (const std::string strategy : {"ent", "mu", "perr", "serr"}) {
    CAPTURE(strategy);
    const std::map<std::string, std::string> options{
        {"strategy", strategy}, {"mu_passes", "4"}, {"perr_passes", "3"}, {"rampup_length", "0"}};
    const std::vector<StepReport> volumes =
        check_method("ac_mt", options, {{.name = "vnet", .filters = 2}, {4, 1, 16, 16, 16}});
    CHECK(term_of(volumes[0], "consistency_weight") == 0.1);
    double marked = 0;
    for (const StepReport& report : volumes) marked += term_of(report, "mask_voxels");
    CHECK(marked > 0);
    check_method("ac_mt", options, {{.name = "unet2d", .classes = 4, .filters = 2}, {6, 1, 1, 32, 16}});
  }
}

TEST_CASE("ac_mt: passes that only select leave the gradient alone; those of mu change running statistics") {
  const TinyProblem problem{{.name = "vnet", .filters = 2}, {4, 1, 16, 16, 16}};
  std::vector<std::vector<double>> weights, statistics;
  for (const std::string strategy : {"ent", "perr", "serr", "mu"}) {
    const auto method =
        build_method("ac_mt", {{"strategy", strategy}, {"consistency", "0"}}, problem.setup());
    run_steps(*method, problem, 0, 1);
    weights.push_back(method->student().parameters().values().to_doubles());
    statistics.push_back(method->student().parameters().buffer_values().to_doubles());
  }
  for (size_t i = 1; i < 4; ++i) {
    CHECK(weights[i] == weights[0]);
    CHECK((statistics[i] == statistics[0]) == (i < 3));
  }
}

TEST_CASE("ac_mt: wrong options and networks") {
  const TinyProblem problem{{.name = "resvnet", .filters = 2}, {2, 1, 16, 16, 16}};
  CHECK_THROWS_WITH_AS(build_method("ac_mt", {{"mu_passes", "5"}}, problem.setup()),
                       "option mu_passes: found 5, expected an even number", UsageError);
  CHECK_THROWS_AS(build_method("ac_mt", {{"strategy", "all"}}, problem.setup()), UsageError);
  const auto method = build_method("ac_mt", {{"strategy", "perr"}}, problem.setup());
  CHECK_THROWS_WITH_AS(
      run_steps(*method, problem, 0, 1),
      "option strategy: found 'perr' with network resvnet, expected a network with a feature "
      "map: vnet, unet2d or unet3d",
      UsageError);
}
