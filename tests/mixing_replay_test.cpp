// CML and CVBM, two iterations of pre-training and two of self-training in f64, held against PyTorch: every
// number that they log, and the norm of every tensor of every network afterwards.
// tests/goldens/make_mixing_replay.py made the numbers and says what data, weights and settings belong to
// them.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/two_phase_check.hpp"

using namespace semivox;
using namespace semivox::testing;
using nlohmann::json;

namespace {

constexpr int64_t kLabeled = 4;

Batch make_batch(const Shape& shape, int64_t classes) {
  const auto wave = [&](int64_t i) {
    return std::sin(0.07 * static_cast<double>(i % shape.voxels()) + static_cast<double>(i / shape.voxels()));
  };
  return {by_formula<float>(shape,
                            [&](int64_t i) {
                              return wave(i) + 0.5 * hash_noise(i % shape.voxels(), 700 + i / shape.voxels());
                            }),
          by_formula<uint8_t>(shape,
                              [&](int64_t i) {
                                const double c = (wave(i) + 1) / 2 * static_cast<double>(classes);
                                return std::min(std::floor(c), static_cast<double>(classes - 1));
                              }),
          kLabeled};
}

/// Parameter number p: weights of convolutions sqrt(6 / fan) u(i, p), of norms 1 + 0.1 u, biases 0.05 u, as
/// f32.
void fill(ParameterSet& set) {
  int64_t p = 0;
  for (Parameter& parameter : set.parameters()) {
    const bool convolution = parameter.dims.size() > 1;
    const bool norm_weight = !convolution && parameter.name.ends_with(".weight");
    const double fan = static_cast<double>(parameter.count / parameter.dims[0]);
    const double scale = convolution ? std::sqrt(6 / fan) : norm_weight ? 0.1 : 0.05;
    for (int64_t i = 0; i < parameter.count; ++i) {
      const double value = (norm_weight ? 1 : 0) + scale * hash_noise(i, p);
      parameter.value.data<double>()[i] = static_cast<double>(static_cast<float>(value));
    }
    ++p;
  }
  set.touch();
}

double norm(const Tensor& tensor) {
  double squares = 0;
  for (const double v : tensor.to_doubles()) squares += v * v;
  return std::sqrt(squares);
}

void replay(const std::string& name, const std::string& method_name, const NetworkOptions& network,
            const Shape& shape, std::map<std::string, std::string> options) {
  std::ifstream in(SEMIVOX_TEST_DATA "/mixing_replay.json");
  REQUIRE(in.good());
  const json golden = json::parse(in)[name];
  const OneThread one_thread;
  options.insert({{"pretrain", "0.5"}, {"mask_corner", "0,3,2"}, {"mask_ratio", "0.6"}});
  MethodSetup setup;
  setup.network = network;
  setup.network.filters = 2;
  setup.network.dropout = 0;
  setup.precision = DType::f64;
  setup.optimizer.weight_decay = 0.01;
  setup.iterations = 4;
  setup.batch = kLabeled;
  const auto method = build_method(method_name, options, setup);
  fill(method->student().parameters());

  const Batch all = make_batch(shape, network.classes);
  const Batch labeled{all.labeled_images(), all.labels(), kLabeled};
  double worst = 0, worst_norm = 0;
  for (int64_t t = 0; t < 4; ++t) {
    if (t == 2) method->begin_phase(1);
    Random random(1, static_cast<uint64_t>(t) + 1);
    const StepReport report = method->step(t < 2 ? labeled : all, {t / 2, t % 2, 0.01, &random});
    const json& expected = golden["iterations"][static_cast<size_t>(t)];
    CHECK(report.size() == expected.size());
    for (const auto& [term, value] : report) {
      INFO("iteration ", t, " ", term);
      REQUIRE(expected.contains(term));
      const double reference = expected[term].get<double>();
      worst = std::max(worst, std::abs(value - reference) / reference);
      CHECK(std::abs(value - reference) <= 1e-12 * reference);  // 4e-14 seen
    }
  }
  size_t compared = 0;
  for (const auto& [network_name, trained] : method->networks()) {
    for (const auto* list : {&trained->parameters().parameters(), &trained->parameters().buffers()}) {
      for (const Parameter& parameter : *list) {
        if (parameter.counter) continue;
        const std::string key = text(network_name, "/", parameter.name);
        INFO(key);
        REQUIRE(golden["norms"].contains(key));
        const double reference = golden["norms"][key].get<double>();
        worst_norm = std::max(worst_norm, std::abs(norm(parameter.value) - reference) / reference);
        CHECK(std::abs(norm(parameter.value) - reference) <= 2e-11 * reference);  // 12 digits: 5e-12 seen
        ++compared;
      }
    }
  }
  CHECK(compared == golden["norms"].size());
  MESSAGE(name, ": terms within ", worst, ", norms within ", worst_norm);
}

const Shape kVolumes{2 * kLabeled, 1, 32, 32, 16}, kSlices{2 * kLabeled, 1, 1, 32, 48};

}  // namespace

TEST_CASE("replay: cml") {
  replay("cml", "cml", {.name = "cml"}, kVolumes, {{"unlabeled_weight", "0.5"}});
  replay("cml_self", "cml", {.name = "cml"}, kVolumes,
         {{"unlabeled_weight", "0.5"}, {"outside_from", "self"}});
}

TEST_CASE("replay: cml in 2D") {
  replay("cml_2d", "cml", {.name = "cml_2d", .classes = 4}, kSlices, {{"unlabeled_weight", "0.5"}});
}

TEST_CASE("replay: cvbm") { replay("cvbm", "cvbm", {.name = "cvbm"}, kVolumes, {}); }

TEST_CASE("replay: cvbm in 2D") {
  replay("cvbm_2d", "cvbm", {.name = "cvbm_2d", .classes = 4}, kSlices,
         {{"dice_squared", "true"},
          {"dice_unmasked_background", "true"},
          {"ema_buffers", "true"},
          {"keep_momentum", "true"},
          {"consistency", "0.5"},
          {"rampup_length", "200"},
          {"region_weight", "2"},
          {"pretrain_loss", "regions"}});
}
