// DTC and SASSNet, four iterations in f64, held against PyTorch: every number that they log, and the norm of
// every tensor of every network afterwards. tests/goldens/make_shape_replay.py made the numbers and says what
// data, weights and settings belong to them.
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "methods/method.hpp"
#include "tests/gradients.hpp"
#include "tests/hash_noise.hpp"

using namespace semivox;
using nlohmann::json;
using semivox::testing::by_formula;
using semivox::testing::hash_noise;

namespace {

const Shape kShape{4, 1, 32, 16, 16};

Batch make_batch() {
  const auto ball = [](int64_t i) {
    const int64_t n = i / kShape.voxels(), v = i % kShape.voxels();
    const int64_t x = v / 256 - 12 - 2 * n, y = v / 16 % 16 - 7, z = v % 16 - 9 + n;
    return x * x + y * y + z * z <= 25 + 3 * n;
  };
  return {by_formula<float>(kShape,
                            [&](int64_t i) {
                              const int64_t n = i / kShape.voxels(), v = i % kShape.voxels();
                              return (ball(i) ? 1.0 : 0.0) + 0.5 * hash_noise(v, 900 + n);
                            }),
          by_formula<uint8_t>(kShape, [&](int64_t i) { return i < 2 * kShape.voxels() && ball(i); }), 2};
}

/// Parameter number p is offset + scale * noise number first + p, rounded to f32.
void fill(ParameterSet& set, int64_t first, bool is_discriminator) {
  for (Parameter& parameter : set.parameters()) {
    const bool convolution = parameter.dims.size() > 1;
    const bool transposed = parameter.name.find("_up.") != std::string::npos;
    const bool norm_weight = !convolution && !is_discriminator && parameter.name.ends_with(".weight");
    const int64_t fan = transposed ? parameter.dims[0] : parameter.count / parameter.dims[0];
    const double scale = convolution ? std::sqrt(6 / static_cast<double>(fan)) : norm_weight ? 0.1 : 0.05;
    for (int64_t i = 0; i < parameter.count; ++i) {
      const double value = (norm_weight ? 1 : 0) + scale * hash_noise(i, first);
      parameter.value.data<double>()[i] = static_cast<double>(static_cast<float>(value));
    }
    ++first;
  }
  set.touch();
}

double norm(const Tensor& tensor) {
  double squares = 0;
  for (const double v : tensor.to_doubles()) squares += v * v;
  return std::sqrt(squares);
}

void replay(const std::string& name, const std::map<std::string, std::string>& options) {
  std::ifstream in(SEMIVOX_TEST_DATA "/shape_replay.json");
  REQUIRE(in.good());
  const json golden = json::parse(in)[name];
  const testing::OneThread one_thread;
  OptionReader reader(options);
  const std::unique_ptr<Method> method = find_method(name).make(reader);
  reader.finish(name);
  MethodSetup setup;
  setup.network = {.name = "vnet_sdf", .filters = 4, .dropout = 0};
  setup.precision = DType::f64;
  method->build(setup);
  for (const auto& [network_name, network] : method->networks()) {
    const bool is_discriminator = network_name == "discriminator";
    fill(network->parameters(), is_discriminator ? 700 : 0, is_discriminator);
  }

  const Batch batch = make_batch();
  double worst = 0, worst_norm = 0;
  for (size_t i = 0; i < golden["iterations"].size(); ++i) {
    Random random(1, i + 1);
    const StepReport report = method->step(batch, {0, static_cast<int64_t>(i), 0.001, &random});
    const json& expected = golden["iterations"][i];
    CHECK(report.size() == expected.size());
    for (const auto& [term, value] : report) {
      INFO("iteration ", i, " ", term);
      REQUIRE(expected.contains(term));
      const double reference = expected[term].get<double>();
      worst = std::max(worst, std::abs(value - reference) / reference);
      CHECK(std::abs(value - reference) <= 1e-12 * reference);
    }
  }
  for (const auto& [network_name, network] : method->networks()) {
    const json& norms = golden["norms"][network_name];
    const ParameterSet& set = network->parameters();
    CHECK(set.parameters().size() + set.buffers().size() == norms.size());
    for (const std::deque<Parameter>* list : {&set.parameters(), &set.buffers()}) {
      for (const Parameter& parameter : *list) {
        INFO(network_name, "/", parameter.name);
        REQUIRE(norms.contains(parameter.name));
        const double reference = norms[parameter.name].get<double>();
        worst_norm = std::max(worst_norm, std::abs(norm(parameter.value) - reference) / reference);
        CHECK(std::abs(norm(parameter.value) - reference) <= 5e-11 * reference);  // 1e-11 seen
      }
    }
  }
  MESSAGE(name, ": terms within ", worst, ", norms within ", worst_norm);
}

}  // namespace

TEST_CASE("replay: dtc") { replay("dtc", {{"rampup_unit", "1"}, {"rampup_length", "3"}}); }

TEST_CASE("replay: sassnet") {
  replay("sassnet", {{"rampup_unit", "1"},
                     {"rampup_length", "3"},
                     {"adversarial", "0.5"},
                     {"discriminator_filters", "2"},
                     {"discriminator_dropout", "0"}});
}
