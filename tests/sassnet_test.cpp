// SASSNet: its losses against the published numbers and by central differences, and whole iterations: who
// learns from what, and in which mode.
#include "methods/sassnet.hpp"

#include <algorithm>

#include "kernels/signed_distance.hpp"
#include "layers/discriminator.hpp"
#include "layers/pointwise.hpp"
#include "methods/dtc.hpp"
#include "tests/gradients.hpp"
#include "tests/hash_noise.hpp"
#include "tests/tiny_run.hpp"

using namespace semivox;
using semivox::testing::by_formula;
using semivox::testing::hash_noise;
using semivox::testing::TinyRun;

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

double value_of(const StepReport& report, const std::string& term) {
  for (const auto& [name, value] : report) {
    if (name == term) return value;
  }
  FAIL("no " << term);
  return 0;
}

double first(const LossValue& loss) { return loss.results.data<double>()[0]; }

std::vector<double> weights(TinyRun& run, const std::string& network) {
  return run.network(network).parameters().values().to_doubles();
}

/// The discriminator's logits of the student's maps of `images`.
Variable judge(TinyRun& run, const Tensor& images, const Pass& student) {
  const NoGrad no_grad;
  const Variable map = run.method().student().forward_all(Variable(images), student).distance;
  return run.network("discriminator").forward(concat_channels(map, Variable(images)), {});
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
  TinyRun run("sassnet", kFrozen);
  const Batch batch = run.batch(0);
  const StepReport report = run.steps(0, 1)[0];
  const LossValue expected = discriminator_loss(judge(run, batch.image, {}), batch.labeled);
  CHECK(value_of(report, "loss_discriminator") == first(expected));
  CHECK(value_of(report, "discriminator_accuracy") == expected.results.data<double>()[1]);

  // The network's own step saw maps in training mode, of the weights before.
  TinyRun before("sassnet", kFrozen);
  Random random(3, 1);
  const Variable judged = judge(before, batch.image, {true, &random});
  const double adversarial =
      first(discriminator_loss(judged.samples(batch.labeled, judged.shape().n - batch.labeled), 2));
  CHECK(value_of(report, "loss_adversarial") == adversarial);
}

TEST_CASE("sassnet: the discriminator learns from its own loss alone, the network from both") {
  // Adam's first step is the learning rate times the gradient's sign, whatever lambda had left in it.
  const Options options = with(with(kSmall, "discriminator_dropout", "0"), "rampup_length", "0");
  TinyRun plain("sassnet", with(options, "adversarial", "0")),
      strong("sassnet", with(options, "adversarial", "5"));
  const std::vector<double> d_before = weights(plain, "discriminator"), w_before = weights(plain, "student");
  plain.steps(0, 1);
  strong.steps(0, 1);
  const std::vector<double> d_after = weights(plain, "discriminator");
  double largest = 0;
  for (size_t i = 0; i < d_before.size(); ++i)
    largest = std::max(largest, std::abs(d_after[i] - d_before[i]));
  CHECK(largest > 0.99e-4);
  CHECK(largest < 1.01e-4);
  CHECK(weights(plain, "student") != w_before);
  CHECK(weights(plain, "student") != weights(strong, "student"));

  // The gradient of the discriminator's step, made once more from the weights of before.
  TinyRun again("sassnet", with(with(options, "adversarial", "5"), "discriminator_lr", "0"));
  const Batch batch = again.batch(0);
  again.steps(0, 1);
  ParameterSet& set = again.network("discriminator").parameters();
  const std::vector<double> left = set.gradients().to_doubles();
  set.zero_gradients();
  Variable map;
  {
    const NoGrad no_grad;
    map = again.method().student().forward_all(Variable(batch.image), {}).distance;
  }
  const Variable judged =
      again.network("discriminator").forward(concat_channels(map, Variable(batch.image)), {});
  discriminator_loss(judged, batch.labeled).loss.backward();
  CHECK(set.gradients().to_doubles() == left);
}

TEST_CASE("sassnet: without a weight it is supervised, and what it logs adds up") {
  TinyRun off("sassnet", with(kFrozen, "adversarial", "0")), dtc("dtc", {{"consistency", "0"}});
  const StepReport a = off.steps(0, 2)[1], b = dtc.steps(0, 2)[1];
  CHECK(value_of(a, "loss_dice") == value_of(b, "loss_dice"));
  CHECK(value_of(a, "loss_distance") == value_of(b, "loss_distance"));

  TinyRun run("sassnet",
              with(with(with(kSmall, "adversarial", "0.5"), "distance_weight", "2"), "rampup_length", "0"));
  const StepReport r = run.steps(0, 1)[0];
  const double sum =
      value_of(r, "loss_dice") + 2 * value_of(r, "loss_distance") + 0.5 * value_of(r, "loss_adversarial");
  CHECK(std::abs(r[0].second - sum) < 1e-14 * sum);
  CHECK(value_of(r, "adversarial_weight") == 0.5);
}

TEST_CASE("sassnet: dropout off, nothing is random; restarts go on where they were") {
  const Options fixed = with(kSmall, "discriminator_dropout", "0");
  TinyRun run("sassnet", fixed), again("sassnet", fixed);
  const std::vector<StepReport> reports = run.steps(0, 3);
  CHECK(reports == again.steps(0, 3, 99));
  CHECK(weights(run, "discriminator") == weights(again, "discriminator"));
  TinyRun dropped("sassnet", kSmall), other("sassnet", kSmall);
  CHECK(dropped.steps(0, 1) != other.steps(0, 1, 99));
  testing::check_resume("sassnet", kSmall);
}

TEST_CASE("sassnet: first weights of the discriminator from a file") {
  const TemporaryFolder folder;
  const std::string path = folder / "discriminator.safetensors";
  Discriminator other(2, 0);
  other.allocate(DType::f32, {}, false);
  other.parameters().initialize(77);
  save_weights(path, other, {});
  TinyRun run("sassnet", with(kSmall, "discriminator_init", path));
  CHECK(weights(run, "discriminator") == other.parameters().values().to_doubles());
  CHECK(weights(run, "discriminator") != [&] {
    TinyRun fresh("sassnet", kSmall);
    return weights(fresh, "discriminator");
  }());
  CHECK(mentions(data_error([&] { TinyRun("sassnet", {{"discriminator_init", path}}); }), path, "shape"));
}

TEST_CASE("sassnet: f64 and bf16") {
  CHECK(TinyRun("sassnet", kSmall, 0, DType::f64).steps(0, 1).size() == 1);
  CHECK(TinyRun("sassnet", kSmall, 0, DType::bf16).steps(0, 1).size() == 1);
}
