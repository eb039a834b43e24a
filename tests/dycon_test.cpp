// DyCON: UnCL and schedules against the published code's numbers, gradients by central differences, three
// iterations against PyTorch (tests/goldens/make_dycon.py), and what must not change a run.

#include "methods/dycon.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/gradient_clip.hpp"
#include "kernels/patch_labels.hpp"
#include "methods/method.hpp"
#include "tests/hash_noise.hpp"
#include "tests/network_check.hpp"

using namespace semivox;
using namespace semivox::testing;

namespace {

doctest::Approx near(double value, double relative) { return doctest::Approx(value).epsilon(relative); }

Tensor wave_logits(const Shape& shape, double a, double b) {
  return by_formula<double>(shape, [&](int64_t i) { return 2 * std::sin(a * static_cast<double>(i) + b); });
}

/// Weights that leave UnCL alone.
DyconWeights only_uncl(double beta) { return {0, 0, 1, beta}; }

/// Two labelled and two unlabelled images: noise, and balls that are one brighter and labelled.
Batch make_batch(const Shape& shape) {
  Batch batch;
  batch.image = tagged_image(shape, DType::f32);
  batch.label = Tensor::zeros(shape, DType::u8, {});
  batch.labeled = 2;
  for (int64_t i = 0; i < 2 * shape.voxels(); ++i) {
    const int64_t w = i % shape.w, h = i / shape.w % shape.h, d = i / shape.w / shape.h % shape.d;
    const int64_t n = i / shape.voxels();
    const int64_t square = (d - 14 - n) * (d - 14 - n) + (h - 17) * (h - 17) + (w - 15) * (w - 15);
    if (square >= 90 + 40 * n) continue;
    batch.label.data<uint8_t>()[i] = 1;
    batch.image.data<float>()[i] += 1;
  }
  return batch;
}

std::unique_ptr<Method> make_dycon(std::map<std::string, std::string> set) {
  OptionReader options(std::move(set));
  std::unique_ptr<Method> method = find_method("dycon").make(options);
  options.finish("dycon");
  return method;
}

MethodSetup small_setup(DType precision) {
  MethodSetup setup;
  setup.network.name = "unet3d_dycon";
  setup.network.filters = 2;
  setup.network.dropout = 0;
  setup.precision = precision;
  setup.iterations = 12;
  return setup;
}

}  // namespace

TEST_CASE("dycon: UnCL of the published code") {
  const Shape shape{2, 2, 3, 4, 5};
  const Variable z(wave_logits(shape, 0.7, 0.1), true);
  const Tensor teacher = wave_logits(shape, 0.9, 0.5);
  const Tensor labels = Tensor::zeros({1, 1, 3, 4, 5}, DType::u8, {});
  const LossValue loss = dycon_loss(z, labels, teacher, only_uncl(2));
  loss.loss.backward();
  CHECK(loss.results.data<double>()[4] == near(1.5055728806, 1e-10));
  CHECK(loss.results.data<double>()[0] == loss.results.data<double>()[4]);
  double magnitudes = 0;
  for (const double g : z.gradient().to_doubles()) magnitudes += std::abs(g);
  CHECK(magnitudes == near(0.5051859237, 1e-9));
  CHECK(z.gradient().data<double>()[0] == near(-0.0034390845, 1e-8));
}

TEST_CASE("dycon: the gradient of the voxel-wise loss, by central differences") {
  for (const int64_t classes : {2, 3}) {
    const Shape shape{4, classes, 3, 4, 2};
    const auto noise = [&](int64_t number) {
      return by_formula<double>(shape, [&](int64_t i) { return 3 * hash_noise(i, number); });
    };
    const Tensor logits = noise(1), teacher = noise(2);
    const Tensor labels = by_formula<uint8_t>({2, 1, 3, 4, 2}, [&](int64_t i) {
      return static_cast<double>(classes) * (hash_noise(i, 3) + 1) / 2;
    });
    for (const DyconWeights& weights : {DyconWeights{1, 0.7, 0.5, 5}, DyconWeights{1, 20, 0.5, 0.5}}) {
      const Variable z(logits, true);
      dycon_loss(z, labels, teacher, weights).loss.backward();
      const auto number = [&] {
        const NoGrad no_grad;
        return dycon_loss(Variable(logits), labels, teacher, weights).results.data<double>()[0];
      };
      check_gradient("logits", logits, z.gradient(), number, {.tolerance = 1e-7, .floor = 1e-2});
    }
  }
}

TEST_CASE("dycon: beta falls from 5 to 0.5, the threshold rises from 0.3 to 0.5") {
  CHECK(dycon_beta(0, 100, 5, 0.5) == 5);
  CHECK(dycon_beta(50, 100, 5, 0.5) == near(std::sqrt(2.5), 1e-14));
  CHECK(dycon_beta(100, 100, 5, 0.5) == near(0.5, 1e-14));
  CHECK(dycon_beta(70, 100, 2, 2) == 2);
  CHECK(dycon_threshold(0, 1500, 0.3, 0.5) == near(0.30134759, 1e-8));
  CHECK(dycon_threshold(750, 1500, 0.3, 0.5) == near(0.3 + 0.2 * std::exp(-1.25), 1e-14));
  CHECK(dycon_threshold(9999, 1500, 0.3, 0.5) == 0.5);
}

TEST_CASE("patch labels: majority of all voxels or of the central ones") {
  // Patches of 4x3x2 voxels; the central ones are 1, 2 of 0..3, 1 of 0..2 and both of 0, 1.
  const Shape fine{1, 1, 4, 3, 4};
  Tensor labels = Tensor::zeros(fine, DType::u8, {});
  const auto set = [&](int64_t d, int64_t h, int64_t w, uint8_t value) {
    labels.data<uint8_t>()[(d * 3 + h) * 4 + w] = value;
  };
  const auto majority = [&](kernels::PatchVoxels voxels) {
    return kernels::patch_labels(labels, {1, 1, 2}, voxels).to_doubles();
  };
  for (const int64_t d : {1, 2}) {
    for (const int64_t w : {0, 1}) set(d, 1, w, 1);
  }
  using kernels::PatchVoxels;
  CHECK(majority(PatchVoxels::all) == std::vector<double>{0, 0});      // 4 of 24
  CHECK(majority(PatchVoxels::central) == std::vector<double>{1, 0});  // 4 of 4
  set(1, 1, 0, 0);
  set(1, 1, 1, 2);
  CHECK(majority(PatchVoxels::central) == std::vector<double>{1, 0});
  set(2, 1, 0, 0);
  CHECK(majority(PatchVoxels::central) == std::vector<double>{0, 0});  // 2, 1, 1: the mean is at most 1/2
  for (int64_t i = 0; i < fine.voxels(); ++i)
    labels.data<uint8_t>()[i] = i % 4 < 2 ? 0 : i / 4 % 3 > 0 ? 3 : 1;
  CHECK(majority(PatchVoxels::all) == std::vector<double>{0, 3});
  CHECK_THROWS_AS(kernels::patch_labels(labels, {3, 1, 2}, PatchVoxels::all), InternalError);
}

TEST_CASE("patch labels: two classes, thresholds of the published code") {
  Tensor labels = Tensor::zeros({1, 1, 8, 8, 8}, DType::u8, {});
  const auto first = [&](int64_t ones, kernels::PatchVoxels voxels) {
    for (int64_t i = 0; i < 512; ++i) labels.data<uint8_t>()[i] = i < ones;
    return kernels::patch_labels(labels, {1, 1, 1}, voxels).to_doubles()[0];
  };
  CHECK(first(256, kernels::PatchVoxels::all) == 0);
  CHECK(first(257, kernels::PatchVoxels::all) == 1);
  // The centre is planes 3 and 4, rows 3 and 4, columns 3 and 4: half of it lies before voxel 256.
  CHECK(first(4 * 64 + 3 * 8 + 3, kernels::PatchVoxels::central) == 0);
  CHECK(first(4 * 64 + 3 * 8 + 4, kernels::PatchVoxels::central) == 1);
}

TEST_CASE("gradients are clipped by their common norm") {
  for (const DType dtype : {DType::f64, DType::f32}) {
    ParameterSet set;
    for (const char* name : {"a", "b"}) set.declare(name, {3}, Initializer::constant(0));
    set.allocate(dtype, {}, true);
    const auto assign_gradients = [&] {
      for (Parameter& p : set.parameters())
        assign(p.gradient, [&](uint32_t i) { return (p.name == "a" ? 1 : -2) * static_cast<double>(i); });
    };
    assign_gradients();
    CHECK(clip_gradients(set, 6).to_doubles()[0] == 5);  // sqrt(1 + 4 + 4 + 16) = 5 < 6: left alone
    CHECK(set.parameters()[1].gradient.to_doubles() == std::vector<double>{0, -2, -4});
    CHECK(clip_gradients(set, 1).to_doubles()[0] == 5);
    CHECK(set.parameters()[1].gradient.to_doubles()[2] == near(-4 / (5 + 1e-6), 1e-7));
    CHECK(clip_gradients(set, 9).to_doubles()[0] == near(1, 1e-6));
  }
}

TEST_CASE("dycon: three iterations as in PyTorch") {
  std::ifstream in(SEMIVOX_TEST_DATA "/dycon.json");
  REQUIRE(in.good());
  const nlohmann::json golden = nlohmann::json::parse(in);
  const auto method = make_dycon({{"noise", "0"}, {"epoch", "2"}});
  const MethodSetup setup = small_setup(DType::f64);
  method->build(setup);
  for (const auto& [name, network] : method->networks()) {
    fill_by_tags(network->parameters());
    if (name != "teacher") continue;
    Tensor& values = network->parameters().values();
    for (int64_t i = 0; i < values.elements(); ++i) values.data<double>()[i] *= 0.9;
    network->parameters().touch();
  }
  const Batch batch = make_batch({4, 1, 32, 32, 32});
  for (int64_t t = 0; t < static_cast<int64_t>(golden["steps"].size()); ++t) {
    CAPTURE(t);
    const nlohmann::json& expected = golden["steps"][static_cast<size_t>(t)];
    Random random(1, static_cast<uint64_t>(t));
    const StepReport report = method->step(batch, {0, t, 0.01, &random});
    CHECK(report[0].first == "loss");
    CHECK(report.size() == expected.size());
    for (const auto& [name, value] : report) {
      CAPTURE(name);
      CHECK(value == near(expected[name].get<double>(), 1e-9));
    }
  }
  for (const auto& [name, network] : method->networks()) {
    CAPTURE(name);
    const nlohmann::json& tensors = golden["tensors"][name];
    const std::deque<Parameter>& parameters = network->parameters().parameters();
    REQUIRE(parameters.size() == tensors.size());
    for (size_t k = 0; k < parameters.size(); ++k) {
      CAPTURE(parameters[k].name);
      double square = 0, sum = 0;
      const std::vector<double> values = parameters[k].value.to_doubles();
      for (const double v : values) square += v * v, sum += v;
      const double norm = tensors[k]["norm"].get<double>();
      CHECK(std::sqrt(square) == near(norm, 1e-9));
      CHECK(std::abs(sum - tensors[k]["sum"].get<double>()) < 1e-8 * (1 + norm));
      CHECK(std::abs(values[0] - tensors[k]["first"].get<double>()) < 1e-9);
    }
  }
}

TEST_CASE("dycon: noise and dropout off make a run a function of the weights; options change it") {
  const Batch batch = make_batch({4, 1, 32, 16, 16});
  const auto losses = [&](std::map<std::string, std::string> set, uint64_t seed, double dropout) {
    const auto method = make_dycon(std::move(set));
    MethodSetup setup = small_setup(DType::f32);
    setup.network.dropout = dropout;
    method->build(setup);
    std::vector<double> all;
    for (int64_t t = 0; t < 2; ++t) {
      Random random(seed, static_cast<uint64_t>(t));
      for (const auto& [name, value] : method->step(batch, {0, t, 0.01, &random})) all.push_back(value);
    }
    return all;
  };
  const std::vector<double> first = losses({{"noise", "0"}}, 1, 0);
  CHECK(losses({{"noise", "0"}}, 2, 0) == first);
  CHECK(losses({}, 2, 0) != first);
  CHECK(losses({{"noise", "0"}, {"contrast_on", "unlabeled"}, {"patch_labels", "central"}}, 1, 0) != first);
  for (const double v : losses({{"focal", "0"}, {"teacher_negatives", "0"}, {"clip", "0"}}, 1, 0.3))
    CHECK(std::isfinite(v));
}

TEST_CASE("dycon: networks without embeddings are refused") {
  const auto method = make_dycon({});
  MethodSetup setup;
  CHECK_THROWS_WITH_AS(method->build(setup),
                       doctest::Contains("found 'vnet', expected one of unet3d_dycon, unet3d_dycon_aspp, "
                                         "vnet_dycon"),
                       UsageError);
}
