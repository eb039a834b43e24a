// SASSNet: its losses against the published numbers and by central differences, and whole iterations: who
// learns from what, and in which mode.
#include "methods/sassnet.hpp"

#include <algorithm>

#include "kernels/signed_distance.hpp"
#include "layers/discriminator.hpp"
#include "layers/pointwise.hpp"
#include "methods/dtc.hpp"
#include "tests/method_check.hpp"

using namespace semivox;
using semivox::testing::build_method;
using semivox::testing::by_formula;
using semivox::testing::hash_noise;
using semivox::testing::run_steps;
using semivox::testing::term_of;
using semivox::testing::TinyProblem;

namespace {

using Options = std::map<std::string, std::string>;

const Options kSmall{{"discriminator_filters", "2"}};
/// Nothing random, and a discriminator that keeps its first weights.
const Options kFrozen{
    {"discriminator_filters", "2"}, {"discriminator_dropout", "0"}, {"discriminator_lr", "0"}};

Options with(Options options, const std::string& name, const std::string& value) {
  options[name] = value;
  return options;
}

const TinyProblem kProblem{{.name = "vnet_sdf", .filters = 2, .dropout = 0}, {4, 1, 16, 16, 16}};

std::unique_ptr<Method> build(const Options& options, const TinyProblem& problem = kProblem) {
  return build_method("sassnet", options, problem.setup());
}

/// What the first iteration reports.
StepReport first_step(Method& method) { return run_steps(method, kProblem, 0, 1)[0]; }

double first(const LossValue& loss) { return loss.results.data<double>()[0]; }

Network& network(Method& method, const std::string& name) {
  for (const auto& [known, network] : method.networks()) {
    if (known == name) return *network;
  }
  throw InternalError("no network " + name);
}

std::vector<double> weights(Method& method, const std::string& name) {
  return network(method, name).parameters().values().to_doubles();
}

/// The discriminator's logits of the student's maps of `images`.
Variable judge(Method& method, const Tensor& images, const Pass& student) {
  const NoGrad no_grad;
  const Variable map = method.student().forward_all(Variable(images), student).distance;
  return network(method, "discriminator").forward(concat_channels(map, Variable(images)), {});
}

}  // namespace

TEST_CASE("sassnet: Dice and error of the map are DTC's") {
  const Shape shape{4, 1, 8, 8, 6};
  const Tensor b = by_formula<double>(shape, [](int64_t i) { return 2 * std::sin(0.05 * i); });
  const Tensor a = by_formula<double>(shape, [](int64_t i) { return 0.002 * std::cos(0.03 * i); });
  const Tensor labels = by_formula<uint8_t>(shape.with_samples(2), [](int64_t i) {
    const double x = i / 48 % 8 - 3.5, y = i / 6 % 8 - 3.5, z = i % 6 - 2.5;
    return i < 384 ? x * x + y * y + z * z <= 6.75 : x < -0.5;
  });
  const Tensor target = kernels::signed_distance(labels);
  const Variable logit(b, true), map(a, true), logit_dtc(b, true), map_dtc(a, true);
  const LossValue loss = sassnet_supervised_loss(logit, tanh(map), labels, target, 0.3);
  const LossValue dtc = dtc_loss(logit_dtc, tanh(map_dtc), labels, target, 0, {});
  const double* r = loss.results.data<double>();
  CHECK(std::abs(r[1] - 0.502000201) < 5e-10);
  CHECK(std::abs(r[2] - 0.386674893) < 4e-9);
  CHECK(std::abs(r[0] - (0.502000201 + 0.3 * 0.386674893)) < 2e-9);
  CHECK(r[3] == dtc.results.data<double>()[4]);
  loss.loss.backward();
  dtc.loss.backward();
  CHECK(logit.gradient().to_doubles() == logit_dtc.gradient().to_doubles());
  CHECK(map.gradient().to_doubles() == map_dtc.gradient().to_doubles());
  const auto number = [&] {
    const NoGrad no_grad;
    return first(sassnet_supervised_loss(Variable(b), tanh(Variable(a)), labels, target, 0.3));
  };
  testing::check_gradient("logit", b, logit.gradient(), number, {.tolerance = 1e-6, .floor = 1e-3});
  testing::check_gradient("map", a, map.gradient(), number, {.tolerance = 1e-6, .floor = 1e-3});
}

TEST_CASE("sassnet: cross-entropy of the discriminator") {
  const Shape shape{1, 2, 1, 1, 1};
  // What the published discriminator gives in the test of its layers, and its cross-entropy for class 1.
  const Variable one(
      by_formula<double>(shape, [](int64_t c) { return c == 0 ? 0.0238122935 : 0.0546491073; }));
  CHECK(std::abs(first(discriminator_loss(one, 1)) - 0.6778476326) < 1e-10);

  const Tensor z = by_formula<double>(shape.with_samples(4), [](int64_t i) { return hash_noise(i, 7); });
  for (const int64_t labeled : {0, 2, 3, 4}) {
    double expected = 0, right = 0;
    for (int64_t n = 0; n < 4; ++n) {
      const double difference = z.data<double>()[2 * n + 1] - z.data<double>()[2 * n];
      const double towards_target = n < labeled ? difference : -difference;
      expected += std::log1p(std::exp(-towards_target)) / 4;
      right += towards_target > 0 ? 0.25 : 0;
    }
    const Variable leaf(z, true);
    const LossValue loss = discriminator_loss(leaf, labeled);
    CHECK(std::abs(first(loss) - expected) < 1e-15);
    CHECK(loss.results.data<double>()[1] == right);
    loss.loss.backward();
    testing::check_gradient("logits", z, leaf.gradient(), [&] {
      const NoGrad no_grad;
      return first(discriminator_loss(Variable(z), labeled));
    });
  }
}

TEST_CASE("sassnet: the adversarial term reaches the maps through the discriminator") {
  Discriminator discriminator(2, 0.5);
  discriminator.allocate(DType::f64, {}, true);
  discriminator.parameters().initialize(4);
  const Shape shape{2, 1, 16, 16, 32};
  const Tensor t = by_formula<double>(shape, [](int64_t i) { return std::sin(0.01 * i); });
  const Tensor x = by_formula<double>(shape, [](int64_t i) { return hash_noise(i, 1); });
  const auto loss = [&](const Variable& map) {
    return discriminator_loss(discriminator.forward(concat_channels(map, Variable(x)), Pass{}), 2);
  };
  const Variable map(t, true);
  loss(map).loss.backward();
  testing::check_gradient("map", t, map.gradient(),
                          [&] {
                            const NoGrad no_grad;
                            return first(loss(Variable(t)));
                          },
                          {.step = 1e-5, .tolerance = 1e-6, .floor = 1e-6, .elements = 20});
}

TEST_CASE("sassnet: the discriminator sees maps of the updated network with running statistics") {
  const auto method = build(kFrozen), before = build(kFrozen);
  const Batch batch = kProblem.data(2);
  const StepReport report = first_step(*method);
  const LossValue expected = discriminator_loss(judge(*method, batch.image, {}), batch.labeled);
  CHECK(term_of(report, "loss_discriminator") == first(expected));
  CHECK(term_of(report, "discriminator_accuracy") == expected.results.data<double>()[1]);

  // The network's own step saw maps in training mode, of the weights before.
  Random random(3, 1);
  const Variable judged = judge(*before, batch.image, {true, &random});
  const double adversarial =
      first(discriminator_loss(judged.samples(batch.labeled, judged.shape().n - batch.labeled), 2));
  CHECK(term_of(report, "loss_adversarial") == adversarial);
}

TEST_CASE("sassnet: the discriminator learns from its own loss alone, the network from both") {
  // Adam's first step is the learning rate times the gradient's sign, whatever lambda had left in it.
  const Options options = with(with(kSmall, "discriminator_dropout", "0"), "rampup_length", "0");
  const auto plain = build(with(options, "adversarial", "0")),
             strong = build(with(options, "adversarial", "5"));
  const std::vector<double> d_before = weights(*plain, "discriminator"),
                            w_before = weights(*plain, "student");
  first_step(*plain);
  first_step(*strong);
  const std::vector<double> d_after = weights(*plain, "discriminator");
  double largest = 0;
  for (size_t i = 0; i < d_before.size(); ++i)
    largest = std::max(largest, std::abs(d_after[i] - d_before[i]));
  CHECK(largest > 0.99e-4);
  CHECK(largest < 1.01e-4);
  CHECK(weights(*plain, "student") != w_before);
  CHECK(weights(*plain, "student") != weights(*strong, "student"));

  // The gradient of the discriminator's step, made once more from the weights of before.
  const auto again = build(with(with(options, "adversarial", "5"), "discriminator_lr", "0"));
  const Batch batch = kProblem.data(2);
  first_step(*again);
  Network& discriminator = network(*again, "discriminator");
  ParameterSet& set = discriminator.parameters();
  const std::vector<double> left = set.gradients().to_doubles();
  set.zero_gradients();
  Variable map;
  {
    const NoGrad no_grad;
    map = again->student().forward_all(Variable(batch.image), {}).distance;
  }
  const Variable judged = discriminator.forward(concat_channels(map, Variable(batch.image)), {});
  discriminator_loss(judged, batch.labeled).loss.backward();
  CHECK(set.gradients().to_doubles() == left);
}

TEST_CASE("sassnet: without a weight it is supervised, and what it logs adds up") {
  const auto off = build(with(kFrozen, "adversarial", "0")),
             dtc = build_method("dtc", {{"consistency", "0"}}, kProblem.setup());
  const StepReport a = run_steps(*off, kProblem, 0, 2)[1], b = run_steps(*dtc, kProblem, 0, 2)[1];
  CHECK(term_of(a, "loss_dice") == term_of(b, "loss_dice"));
  CHECK(term_of(a, "loss_distance") == term_of(b, "loss_distance"));

  const auto method =
      build(with(with(with(kSmall, "adversarial", "0.5"), "distance_weight", "2"), "rampup_length", "0"));
  const StepReport r = first_step(*method);
  const double sum =
      term_of(r, "loss_dice") + 2 * term_of(r, "loss_distance") + 0.5 * term_of(r, "loss_adversarial");
  CHECK(std::abs(r[0].second - sum) < 1e-14 * sum);
  CHECK(term_of(r, "adversarial_weight") == 0.5);
}

TEST_CASE("sassnet: iterations, the same for every seed without dropout, and resumed") {
  CHECK_FALSE(testing::is_random("sassnet", with(kSmall, "discriminator_dropout", "0"), kProblem));
  CHECK(testing::is_random("sassnet", kSmall, kProblem));
  TinyProblem dropped = kProblem;
  dropped.network.dropout = 0.5;
  testing::check_method("sassnet", kSmall, dropped);
}

TEST_CASE("sassnet: first weights of the discriminator from a file") {
  const TemporaryFolder folder;
  const std::string path = folder / "discriminator.safetensors";
  Discriminator other(2, 0);
  other.allocate(DType::f32, {}, false);
  other.parameters().initialize(77);
  save_weights(path, other, {});
  const auto method = build(with(kSmall, "discriminator_init", path)), fresh = build(kSmall);
  CHECK(weights(*method, "discriminator") == other.parameters().values().to_doubles());
  CHECK(weights(*method, "discriminator") != weights(*fresh, "discriminator"));
  CHECK(mentions(data_error([&] { build({{"discriminator_init", path}}); }), path, "shape"));
}

TEST_CASE("sassnet: f64 and bf16") {
  for (const DType precision : {DType::f64, DType::bf16}) {
    TinyProblem problem = kProblem;
    problem.precision = precision;
    CHECK(run_steps(*build(kSmall, problem), problem, 0, 1).size() == 1);
  }
}
