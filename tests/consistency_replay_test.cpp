// Whole iterations of the consistency methods against PyTorch in f64: five steps of UPC with each of its
// terms, entropy minimisation, CPS and ICT. tests/goldens/make_consistency_replay.py made the numbers.

#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/method_check.hpp"
#include "tests/replay_weights.hpp"

using namespace semivox;
using namespace semivox::testing;
using nlohmann::json;

namespace {

constexpr int64_t kSecondWeights = 1000;  // first noise number of the second network's weights

const TinyProblem kProblem{.network = {.name = "vnet", .filters = 4, .dropout = 0},
                           .batch = {4, 1, 32, 32, 16},
                           .iterations = 5,
                           .learning_rate = 0.001,
                           .precision = DType::f64};

/// Cases 0 ... 3 of the replays, cut to multiples of 1/1024, the first two labelled.
Batch replay_batch() {
  Batch batch{Tensor::empty(kProblem.batch, DType::f32, {}), Tensor::zeros(kProblem.batch, DType::u8, {}), 2};
  const int64_t voxels = kProblem.batch.voxels();
  for (int64_t k = 0; k < 4; ++k) {
    for (int64_t i = 0; i < voxels; ++i) {
      const double wave = std::sin(0.013 * static_cast<double>(i + 37 * k));
      const auto value = static_cast<float>(wave + 0.5 * hash_noise(i, 9000 + k));
      batch.image.data<float>()[k * voxels + i] = std::floor(value * 1024) / 1024;
      if (k < 2) batch.label.data<uint8_t>()[k * voxels + i] = wave > 0.3;
    }
  }
  return batch;
}

double relative(double value, double reference) {
  return std::abs(value - reference) / std::max(std::abs(reference), 1e-12);
}

/// Norm and sum.
std::pair<double, double> summary(const Tensor& tensor) {
  double square = 0, sum = 0;
  for (const double v : tensor.to_doubles()) {
    square += v * v;
    sum += v;
  }
  return {std::sqrt(square), sum};
}

void replay(const std::string& golden_name, const std::string& method_name,
            std::map<std::string, std::string> options) {
  const OneThread one_thread;
  std::ifstream file(SEMIVOX_TEST_DATA "/consistency_replay.json");
  REQUIRE(file.good());
  const json golden = json::parse(file)[golden_name];
  options.insert({{"consistency", "0.7"}, {"rampup_length", "0"}});
  MethodSetup setup = kProblem.setup();
  setup.optimizer.weight_decay = 0.01;
  const auto method = build_method(method_name, options, setup);
  const auto networks = method->networks();
  for (size_t k = 0; k < networks.size(); ++k)
    fill_replay_weights(networks[k].second->parameters(), k == 0 ? 0 : kSecondWeights);

  const Batch batch = replay_batch();
  double worst = 0;
  for (int64_t t = 0; t < kProblem.iterations; ++t) {
    Random random(1, static_cast<uint64_t>(t) + 1);
    const StepReport report = method->step(batch, {0, t, kProblem.learning_rate, &random});
    for (const auto& [term, value] : golden["iterations"][static_cast<size_t>(t)].items()) {
      INFO(golden_name, " iteration ", t, " ", term);
      const double deviation = relative(term_of(report, term), value.get<double>());
      CHECK(deviation < 3e-12);  // 8e-13 where UPC's distance nearly vanishes; others 4e-14
      worst = std::max(worst, deviation);
    }
  }
  REQUIRE(networks.size() == golden["networks"].size());
  double worst_network = 0;
  for (size_t k = 0; k < networks.size(); ++k) {
    const ParameterSet& set = networks[k].second->parameters();
    const json& expected = golden["networks"][k];
    const auto [norm, sum] = summary(set.values());
    double square = 0, running = 0;
    for (const Parameter& buffer : set.buffers()) {
      if (buffer.counter) continue;
      const auto [n, s] = summary(buffer.value);
      square += n * n;
      running += s;
    }
    const double found[] = {norm, sum, std::sqrt(square), running};
    for (size_t i = 0; i < 4; ++i) {
      INFO(golden_name, " network ", k, " number ", i);
      const double deviation = relative(found[i], expected[i].get<double>());
      CHECK(deviation < 1e-11);  // twelve digits are stored
      worst_network = std::max(worst_network, deviation);
    }
  }
  MESSAGE(golden_name, ": terms within ", worst, ", networks within ", worst_network);
}

}  // namespace

TEST_CASE("replay: upc, rectified") { replay("upc rectified", "upc", {{"noise", "0"}}); }

TEST_CASE("replay: upc, thresholded") {
  replay("upc thresholded", "upc", {{"noise", "0"}, {"consistency_type", "thresholded"}});
}

TEST_CASE("replay: upc, logits") {
  replay("upc logits", "upc", {{"noise", "0"}, {"consistency_type", "logits"}});
}

TEST_CASE("replay: em") { replay("em", "em", {}); }

TEST_CASE("replay: cps") { replay("cps", "cps", {}); }

TEST_CASE("replay: ict") { replay("ict", "ict", {{"mix", "0.25"}}); }
