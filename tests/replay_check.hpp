// What the replays with waves as images share: data and weights by formula, and the comparison with the
// numbers that PyTorch made of the same (tests/goldens/make_mixing_replay.py).
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "methods/method.hpp"
#include "tests/hash_noise.hpp"

namespace semivox::testing {

/// Entry `name` of the golden file `file`.
inline nlohmann::json read_replay(const std::string& file, const std::string& name) {
  std::ifstream in(SEMIVOX_TEST_DATA "/" + file);
  REQUIRE(in.good());
  return nlohmann::json::parse(in)[name];
}

/// Sample n, voxel v: wave sin(0.07 v + n), image wave + u(v, 700 + n) / 2, label by the wave.
inline Batch replay_batch(const Shape& shape, int64_t classes, int64_t labeled) {
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
          labeled};
}

/// Parameter number p: weights of convolutions sqrt(6 / fan) u(i, p), of norms 1 + 0.1 u, biases 0.05 u, as
/// f32; fan is the second axis times the kernel's volume. A weight of one number is a PReLU's slope: 0.25 +
/// 0.1 u. The set is f64.
inline void fill_by_fan(ParameterSet& set) {
  int64_t p = 0;
  for (Parameter& parameter : set.parameters()) {
    const bool convolution = parameter.dims.size() > 1;
    const bool weight = !convolution && parameter.name.ends_with(".weight");
    const double fan = static_cast<double>(parameter.count / parameter.dims[0]);
    const double offset = !weight ? 0 : parameter.count == 1 ? 0.25 : 1;
    const double scale = convolution ? std::sqrt(6 / fan) : weight ? 0.1 : 0.05;
    for (int64_t i = 0; i < parameter.count; ++i) {
      const double value = offset + scale * hash_noise(i, p);
      parameter.value.data<double>()[i] = static_cast<double>(static_cast<float>(value));
    }
    ++p;
  }
  set.touch();
}

/// Checks every number of a report, and that the golden has no others. Returns the largest relative
/// deviation.
inline double check_report(const StepReport& report, const nlohmann::json& expected, double tolerance) {
  double worst = 0;
  CHECK(report.size() == expected.size());
  for (const auto& [term, value] : report) {
    INFO(term);
    REQUIRE(expected.contains(term));
    const double reference = expected[term].get<double>();
    worst = std::max(worst, std::abs(value - reference) / std::abs(reference));
    CHECK(std::abs(value - reference) <= tolerance * std::abs(reference));
  }
  return worst;
}

/// Checks the norm of every tensor of every network. Returns the largest relative deviation.
inline double check_norms(Method& method, const nlohmann::json& expected, double tolerance) {
  const auto norm = [](const Tensor& tensor) {
    double squares = 0;
    for (const double v : tensor.to_doubles()) squares += v * v;
    return std::sqrt(squares);
  };
  double worst = 0;
  size_t compared = 0;
  for (const auto& [network_name, network] : method.networks()) {
    for (const auto* list : {&network->parameters().parameters(), &network->parameters().buffers()}) {
      for (const Parameter& parameter : *list) {
        if (parameter.counter) continue;
        const std::string key = text(network_name, "/", parameter.name);
        INFO(key);
        REQUIRE(expected.contains(key));
        const double reference = expected[key].get<double>();
        worst = std::max(worst, std::abs(norm(parameter.value) - reference) / reference);
        CHECK(std::abs(norm(parameter.value) - reference) <= tolerance * reference);
        ++compared;
      }
    }
  }
  CHECK(compared == expected.size());
  return worst;
}

}  // namespace semivox::testing
