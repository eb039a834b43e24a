// SS-Net: adversarial noise, prototypes and the distance to them against numbers of the published code, their
// gradients by central differences, and iterations of the method in 3D and 2D.
#include "layers/ss_net.hpp"

#include "kernels/rows.hpp"
#include "kernels/uncertainty.hpp"
#include "layers/rows.hpp"
#include "methods/prototypes.hpp"
#include "methods/vat.hpp"
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

/// `count` rows of `channels` numbers, row after row.
Tensor tagged_rows(int64_t count, int64_t channels, double scale, uint32_t t) {
  const Tensor rows = Tensor::empty({1, channels, 1, 1, count}, DType::f64, {});
  assign(rows, [&](uint32_t i) { return scale * tag_noise(i, t); });
  return rows;
}

doctest::Approx near(double value, double relative) { return doctest::Approx(value).epsilon(relative); }

double norm(const std::vector<double>& values) {
  double total = 0;
  for (const double v : values) total += v * v;
  return std::sqrt(total);
}

/// L2 norm of every sample.
std::vector<double> sample_norms(const Tensor& x) {
  std::vector<double> norms;
  for (int64_t n = 0; n < x.shape().n; ++n) norms.push_back(norm(x.samples(n, 1).to_doubles()));
  return norms;
}

double buffer_of(Network& network, const std::string& name) {
  for (const Parameter& buffer : network.parameters().buffers())
    if (buffer.name == name) return buffer.value.to_doubles()[0];
  FAIL("no buffer " << name);
  return 0;
}

const NetworkOptions kFixed{.name = "vnet_ss", .filters = 2, .dropout = 0};
const Shape kPatch{4, 1, 16, 16, 16};

/// Iteration t's batch, two of four samples labelled: blobs of two classes in noise.
Batch blobs(int64_t t) {
  const Tensor label = by_formula<uint8_t>(
      kPatch, [&](int64_t i) { return 2 * (std::sin(0.05 * static_cast<double>(i + 37 * t)) + 1) / 2.001; });
  const uint8_t* l = label.data<uint8_t>();
  return {by_formula<float>(kPatch, [&](int64_t i) { return l[i] - 0.5 + 0.5 * hash_noise(i, 100 + t); }),
          label, 2};
}

}  // namespace

TEST_CASE("rows: gathered, scattered and on the tape") {
  const Tensor x = random_tensor({2, 3, 1, 2, 4}, 1);
  const std::vector<int32_t> picked{15, 0, 7, 8};
  const Tensor rows = kernels::row_list(picked, {});
  const Tensor out = kernels::gather_rows(x, rows);
  CHECK(out.shape() == Shape{1, 3, 1, 1, 4});
  const Tensor back = kernels::scatter_rows(out, rows, x.shape());
  for (int64_t i = 0; i < x.elements(); ++i) {
    const auto found = std::find(picked.begin(), picked.end(), static_cast<int32_t>(i / 3));
    CHECK(back.data<double>()[i] == (found == picked.end() ? 0.0 : x.data<double>()[i]));
    if (found != picked.end())
      CHECK(out.data<double>()[(found - picked.begin()) * 3 + i % 3] == x.data<double>()[i]);
  }
  check_op({x}, nullptr, [&](const std::vector<Variable>& in) { return take_rows(in[0], rows); });
}

TEST_CASE("ss_net: distances of predictions of the published code, in 3D and 2D") {
  const Shape volumes{4, 2, 4, 4, 4}, slices{2, 4, 1, 8, 8};
  const Variable a(tagged<float>(volumes, 4, 1), true);
  const LossValue whole = prediction_distance(a, tagged<float>(volumes, 4, 2), false);
  CHECK(whole.results.to_doubles()[0] == near(0.5038128, 1e-7));
  whole.loss.backward();
  const std::vector<double> gradient = a.gradient().to_doubles();
  CHECK(std::abs(gradient.front() - 0.00033862) < 6e-9);
  CHECK(std::abs(gradient.back() - 0.00013914) < 6e-9);
  CHECK(norm(gradient) == near(0.00989304, 6e-7));
  CHECK(prediction_distance(Variable(tagged<float>(slices, 4, 4)), tagged<float>(slices, 4, 6), true)
            .results.to_doubles()[0] == near(0.4168389, 2e-7));
}

TEST_CASE("ss_net: the distance's gradient by central differences") {
  const Shape shape{2, 3, 1, 4, 5};
  const Tensor logits = tagged<double>(shape, 4, 11), clean = tagged<double>(shape, 4, 12);
  for (const bool per_class : {false, true}) {
    const Variable z(logits, true);
    prediction_distance(z, clean, per_class).loss.backward();
    check_gradient(
        "distance", logits, z.gradient(),
        [&] { return prediction_distance(Variable(logits), clean, per_class).results.to_doubles()[0]; },
        {.tolerance = 1e-7, .floor = 1e-2});
  }
}

TEST_CASE("ss_net: directions have length 1 in every sample") {
  const Shape shape{3, 1, 4, 5, 6};
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor random = random_direction(shape, dtype, {}, {1, 2, 3});
    for (const double n : sample_norms(random)) CHECK(n == near(1, 1e-6));
    CHECK(random.to_doubles() != random_direction(shape, dtype, {}, {1, 2, 4}).to_doubles());
    const std::vector<double> wave = wave_direction(shape, dtype, {}).to_doubles();
    CHECK(wave[1] / wave[0] == near(std::sin(2.0) / std::sin(1.0), 1e-6));
  }
  Tensor tiny = Tensor::zeros({1, 1, 1, 1, 2}, DType::f64, {});
  tiny.data<double>()[1] = -3e-8;
  CHECK(unit_direction(tiny).data<double>()[1] == near(-0.75, 1e-12));  // the 1e-8 in the denominator
  CHECK(unit_direction(tiny, 10).data<double>()[1] == near(-30.0 / 31, 1e-12));
}

TEST_CASE("ss_net: one step of virtual adversarial training of the published code") {
  // Weights, image and start are rounded to f32 as the code's are; the numbers are those of PyTorch in f64,
  // which the published code's f32 agrees with to three digits in the gradient, to seven in the distances.
  const auto rounded = [](const Tensor& t) {
    for (int64_t i = 0; i < t.elements(); ++i)
      t.data<double>()[i] = static_cast<double>(static_cast<float>(t.data<double>()[i]));
    return t;
  };
  const auto network = tagged_network({.name = "vnet"}, 30, DType::f64);
  rounded(network->parameters().values());
  network->parameters().touch();
  const Tensor image = rounded(tagged_image({2, 1, 32, 32, 32}, DType::f64));
  const Tensor start = unit_direction(rounded(tagged<double>(image.shape(), 1, 1001)));
  const Pass pass{true, nullptr};
  Tensor clean;
  {
    const NoGrad no_grad;
    clean = network->forward(Variable(image), pass).value();
  }
  CHECK(prediction_distance(Variable(clean), clean, false).results.to_doubles()[0] ==
        near(0.4002753876, 1e-9));
  const Variable x = perturbed(*network, image, start, 10, true);
  const LossValue first = prediction_distance(network->forward(x, pass), clean, false);
  CHECK(first.results.to_doubles()[0] == near(0.4085502798, 1e-9));
  first.loss.backward();
  const std::vector<double> lengths = sample_norms(x.gradient());
  CHECK(10 * lengths[0] == near(0.08400607196, 1e-7));
  CHECK(10 * lengths[1] == near(0.07931647746, 1e-7));

  const Tensor direction = unit_direction(x.gradient(), 10);
  CHECK(sample_norms(direction)[0] == near(1, 1e-6));
  CHECK(direction.data<double>()[0] == near(0.0007075653, 1e-6));
  CHECK(direction.data<double>()[2 * 32 * 32 * 32 - 1] == near(-0.0006228054, 1e-6));
  const NoGrad no_grad;
  const Variable logits = network->forward(perturbed(*network, image, direction, 10, false), pass);
  CHECK(prediction_distance(logits, clean, false).results.to_doubles()[0] == near(0.4149106880, 1e-9));
}

TEST_CASE("ss_net: the gradient by the image needs no gradients of parameters") {
  const NetworkOptions options{.name = "unet2d_ss", .filters = 2, .dropout = 0};
  const auto trained = make_network(options), frozen = make_network(options);
  trained->allocate(DType::f32, {}, true);
  frozen->allocate(DType::f32, {}, false);
  trained->parameters().initialize(3);
  frozen->parameters().copy_from(trained->parameters());
  const Tensor image = tagged_image({2, 1, 1, 32, 16}, DType::f32);
  const Tensor start = wave_direction(image.shape(), DType::f32, {});
  const Tensor clean = trained->forward(Variable(image), {true, nullptr}).value();
  const VatOptions vat{.xi = 0.01, .iterations = 3, .per_class = true};
  const Tensor by_trained = adversarial_direction(*trained, image, clean, start, vat, {true, nullptr});
  const Tensor by_frozen = adversarial_direction(*frozen, image, clean, start, vat, {true, nullptr});
  CHECK(by_frozen.to_doubles() == by_trained.to_doubles());
  // The noise found raises the distance more than the noise that the search began with.
  const auto distance = [&](const Tensor& direction) {
    const NoGrad no_grad;
    return prediction_distance(
               frozen->forward(perturbed(*frozen, image, direction, 0.01, false), {true, nullptr}), clean,
               true)
        .results.to_doubles()[0];
  };
  CHECK(distance(by_frozen) > 10 * distance(start));  // 30 times
}

TEST_CASE("ss_net: distance to prototypes of the published code, gradients") {
  const Tensor features = tagged_rows(40, 32, 2, 8), prototypes = tagged_rows(5, 32, 2, 9);
  std::vector<int32_t> odd;
  for (int32_t i = 1; i < 40; i += 2) odd.push_back(i);
  const Variable f(features, true);
  const Variable rows = take_rows(f, kernels::row_list(odd, {}));
  const Tensor scores = Tensor::zeros({1, 1, 1, 1, 20}, DType::f64, {});
  for (int64_t i = 0; i < 20; ++i) {
    for (uint32_t c = 0; c < 32; ++c)
      scores.data<double>()[i] += rows.value().data<double>()[i * 32 + c] * tag_noise(c, 10);
  }
  const Variable loss = 0.5 * prototype_distance(rows, Variable(scores), prototypes);  // mean of 2 classes
  CHECK(loss.value().to_doubles()[0] == near(0.5166392, 1e-7));
  loss.backward();
  CHECK(std::abs(f.gradient().data<double>()[32] - 0.00024960) < 6e-9);
  CHECK(norm(f.gradient().to_doubles()) == near(0.01646898, 2e-7));

  check_op({tagged_rows(7, 5, 2, 20), tagged_rows(7, 1, 4, 21)}, nullptr,
           [&](const std::vector<Variable>& in) {
             return prototype_distance(in[0], in[1], tagged_rows(3, 5, 2, 22));
           });
}

TEST_CASE("ss_net: the memory holds what came last, ranks are stable") {
  PrototypeMemory memory(3, 4, 5, DType::f32, {});
  CHECK(memory.count(1) == 0);
  memory.replace(1, tagged_rows(5, 4, 1, 1));
  memory.replace(1, tagged_rows(2, 4, 1, 2));
  CHECK(memory.count(1) == 2);
  CHECK(memory.count(2) == 0);
  const Tensor held = memory.of_class(1), expected = tagged_rows(2, 4, 1, 2);
  REQUIRE(held.shape() == expected.shape());
  for (int64_t i = 0; i < 8; ++i)
    CHECK(held.data<float>()[i] == static_cast<float>(expected.data<double>()[i]));
  CHECK(norm(memory.vectors().samples(1, 1).to_doubles()) == norm(held.to_doubles()));  // nothing is left

  const std::vector<double> scores{3, 1, 2, 1, 5};
  CHECK(ranked(scores, 3, false) == std::vector<int32_t>{1, 3, 2});
  CHECK(ranked(scores, 3, true) == std::vector<int32_t>{4, 0, 2});
  CHECK(ranked(scores, 9, false).size() == 5);
}

TEST_CASE("ss_net: three iterations of an independent implementation, in f64") {
  // Numbers of the same iterations written with PyTorch's layers, autograd and optimiser.
  TinyProblem problem{kFixed, kPatch};
  problem.precision = DType::f64;
  const auto method = build_method(
      "ss_net", {{"rampup_unit", "1"}, {"rampup_length", "4"}, {"prototypes", "16"}, {"vat_start", "wave"}},
      problem.setup());
  ParameterSet& set = method->student().parameters();
  CHECK(fill_by_tags(set) == 42);
  const double expected[][5] = {
      {0.527496475514, 0.493380745367, 0.470955786080, 0.365720908135, 0.605500318256},
      {0.656080906651, 0.493707090426, 0.471143032258, 0.354661855297, 0.601310881497},
      {0.901225893697, 0.487276803111, 0.471243337772, 0.342946225949, 0.602633623601}};
  for (int64_t t = 0; t < 3; ++t) {
    CAPTURE(t);
    Random random(1, static_cast<uint64_t>(t) + 1);
    const StepReport report = checked_step(*method, blobs(t), {0, t, 0.01, &random});
    CHECK(report[0].second == near(expected[t][0], 1e-9));
    CHECK(term_of(report, "loss_dice") == near(expected[t][1], 1e-9));
    CHECK(term_of(report, "loss_smoothness") == near(expected[t][2], 1e-9));
    CHECK(term_of(report, "loss_contrast_labeled") == near(expected[t][3], 1e-9));
    CHECK(term_of(report, "loss_contrast_unlabeled") == near(expected[t][4], 1e-9));
  }
  const auto norm_of = [](const std::deque<Parameter>& list, const std::vector<std::string>& beginnings) {
    double total = 0;
    for (const Parameter& p : list) {
      if (p.counter) continue;
      for (const std::string& beginning : beginnings)
        if (p.name.starts_with(beginning)) total += square(norm(p.value.to_doubles()));
    }
    return std::sqrt(total);
  };
  CHECK(norm_of(set.parameters(), {"block_"}) == near(33.3892398336, 1e-9));
  CHECK(norm_of(set.parameters(), {"out_conv"}) == near(1.044049628650, 1e-9));
  CHECK(norm_of(set.parameters(), {"projection_head"}) == near(4.305218276096, 1e-9));
  CHECK(norm_of(set.parameters(), {"prediction_head"}) == near(4.431155210269, 1e-9));
  CHECK(norm_of(set.parameters(), {"contrastive_class_selector_1"}) == near(3.893399557397, 1e-9));
  CHECK(norm_of(set.buffers(), {"block_", "projection_head", "prediction_head",
                                "contrastive_class_selector_1"}) == near(14.535167362807, 1e-9));
  CHECK(norm(method->buffers()[0].second->to_doubles()) == near(33.642055874381, 1e-9));
}

TEST_CASE("ss_net: prototypes are projections of rightly predicted foreground voxels") {
  const MethodSetup setup = TinyProblem{kFixed, kPatch}.setup();
  const auto method = build_method("ss_net", {{"prototypes", "64"}}, setup),
             untouched = build_method("ss_net", {{"prototypes", "64"}}, setup);
  const Batch batch = blobs(0);
  Random random(1, 2);
  const StepReport report = method->step(batch, {0, 0, 0.01, &random});

  Network& network = untouched->student();
  const ContrastHeads& heads = dynamic_cast<ContrastNetwork&>(network).heads();
  const NoGrad no_grad;
  const NetworkOutput output = network.forward_all(Variable(batch.image), {true, nullptr});
  const Tensor decided = kernels::hard_labels(output.logits.value(), false);
  std::vector<int32_t> right;
  for (int64_t i = 0; i < batch.labels().elements(); ++i) {
    if (decided.data<uint8_t>()[i] == 1 && batch.label.data<uint8_t>()[i] == 1)
      right.push_back(static_cast<int32_t>(i));
  }
  REQUIRE(right.size() > 64);
  const Tensor rows = kernels::gather_rows(output.features.value(), kernels::row_list(right, {}));
  const Variable embedded = heads.projection(Variable(rows), {});
  const std::vector<double> scores = heads.class_selectors[1](embedded, {true, nullptr}).value().to_doubles();
  const Tensor lowest =
      kernels::gather_rows(embedded.value(), kernels::row_list(ranked(scores, 64, false), {}));

  const auto buffers = method->buffers();
  CHECK(buffers[0].first == "prototypes");
  CHECK(buffers[0].second->samples(1, 1).to_doubles() == lowest.to_doubles());
  CHECK(buffers[1].second->data<int32_t>()[0] == 0);  // never of the background
  CHECK(buffers[1].second->data<int32_t>()[1] == 64);
  CHECK(term_of(report, "prototypes") == 64);
  CHECK(term_of(report, "loss_contrast_labeled") > 0);
}

TEST_CASE("ss_net: which passes update running statistics") {
  const TinyProblem problem{{.name = "vnet_ss", .filters = 2}, kPatch};
  const auto method = build_method("ss_net", {}, problem.setup());
  run_steps(*method, problem, 0, 1);
  Network& network = method->student();
  CHECK(buffer_of(network, "block_five.conv.1.num_batches_tracked") == 2);  // main and clean pass
  CHECK(buffer_of(network, "projection_head.1.num_batches_tracked") == 2);  // labelled and unlabelled half
  CHECK(buffer_of(network, "prediction_head.1.num_batches_tracked") == 2);
  CHECK(buffer_of(network, "contrastive_class_selector_0.1.num_batches_tracked") == 0);
}

TEST_CASE("ss_net: iterations repeat and resume bit for bit, in 3D and 2D") {
  // At full weight from the start, else the loss rises with the weight.
  check_method("ss_net", {{"rampup_length", "0"}}, {{.name = "vnet_ss", .filters = 2}, kPatch});
  const std::map<std::string, std::string> published_2d{
      {"dice", "2d"},        {"consistency", "0.1"}, {"vat_epsilon", "6"},
      {"rampup_first", "0"}, {"prototypes", "8"},    {"background_prototypes", "true"}};
  const std::vector<StepReport> slices = check_method(
      "ss_net", published_2d, {{.name = "unet2d_ss", .classes = 4, .filters = 2}, {4, 1, 1, 32, 32}});
  CHECK(term_of(slices[0], "prototypes") > 8);
}

TEST_CASE("ss_net: the weight ramps up, the loss is the weighted sum") {
  const TinyProblem problem{{.name = "vnet_ss", .filters = 2}, kPatch};
  const auto method = build_method("ss_net", {{"rampup_unit", "1"}, {"rampup_length", "4"}}, problem.setup());
  const std::vector<StepReport> reports = run_steps(*method, problem, 0, 4);
  CHECK(term_of(reports[0], "consistency_weight") == near(std::exp(-5 * 9.0 / 16), 1e-12));
  CHECK(term_of(reports[3], "consistency_weight") == 1);
  for (const StepReport& report : reports) {
    const double contrast =
        term_of(report, "loss_contrast_labeled") + term_of(report, "loss_contrast_unlabeled");
    const double beside_dice = term_of(report, "loss_smoothness") + 0.1 * contrast;
    CHECK(term_of(report, "loss") ==
          near(term_of(report, "loss_dice") + term_of(report, "consistency_weight") * beside_dice, 1e-12));
  }
}

TEST_CASE("ss_net: Dice falls, and nothing is random without dropout and with a fixed start") {
  CHECK_FALSE(is_random("ss_net", {{"vat_start", "wave"}}, {kFixed, kPatch}));
  CHECK(is_random("ss_net", {}, {kFixed, kPatch}));
  const TinyProblem problem{{.name = "vnet_ss", .filters = 4, .dropout = 0}, kPatch};
  const auto method = build_method("ss_net", {{"vat_start", "wave"}}, problem.setup());
  const std::vector<StepReport> reports = run_steps(*method, problem, 0, 11);
  CHECK(term_of(reports[10], "loss_dice") < 0.8 * term_of(reports[0], "loss_dice"));
}

TEST_CASE("ss_net: bf16 and f64 networks train, too") {
  for (const DType precision : {DType::bf16, DType::f64}) {
    TinyProblem problem{{.name = "vnet_ss", .filters = 2}, kPatch};
    problem.precision = precision;
    run_steps(*build_method("ss_net", {}, problem.setup()), problem, 0, 2);
  }
}

TEST_CASE("ss_net: a network without heads is refused") {
  CHECK_THROWS_WITH_AS(build_method("ss_net", {}, {}),
                       "--network: found 'vnet', expected one of vnet_ss, unet2d_ss for method ss_net",
                       UsageError);
}
