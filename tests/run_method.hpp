// A few iterations of a method on a tiny problem, through the interface that the trainer uses.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <map>

#include "methods/checkpoint.hpp"
#include "methods/method.hpp"
#include "tests/hash_noise.hpp"
#include "tests/temporary_folder.hpp"

namespace semivox::testing {

/// A method with its options and what it is built from.
struct MethodProblem {
  std::string method;
  std::map<std::string, std::string> options;
  MethodSetup setup;
  Shape patch{4, 1, 16, 16, 16};  ///< of a batch; half of it is labelled

  MethodProblem(std::string name, const NetworkOptions& network) : method(std::move(name)) {
    setup.network = network;
  }

  std::unique_ptr<Method> build() const {
    OptionReader reader(options);
    std::unique_ptr<Method> built = find_method(method).make(reader);
    reader.finish(method);
    built->build(setup);
    return built;
  }

  /// Iteration t's batch: blobs of all classes in noise.
  Batch batch(int64_t t) const {
    Batch batch;
    batch.labeled = patch.n / 2;
    batch.label = by_formula<uint8_t>(patch.with_channels(1), [&](int64_t i) {
      const double wave = std::sin(0.05 * static_cast<double>(i + 37 * t));
      return static_cast<double>(setup.network.classes) * (wave + 1) / 2.001;
    });
    const uint8_t* label = batch.label.data<uint8_t>();
    batch.image =
        by_formula<float>(patch, [&](int64_t i) { return label[i] - 0.5 + 0.5 * hash_noise(i, 100 + t); });
    return batch;
  }

  /// Iterations first ... last-1; checks that every number is finite.
  std::vector<StepReport> run(Method& built, int64_t first, int64_t last, double learning_rate = 0.01) const {
    std::vector<StepReport> reports;
    for (int64_t t = first; t < last; ++t) {
      Random random(setup.seed, static_cast<uint64_t>(t) + 1);
      reports.push_back(built.step(batch(t), {0, t, learning_rate, &random}));
      for (const auto& [name, value] : reports.back()) {
        INFO(method, ", iteration ", t, ": ", name);
        CHECK(std::isfinite(value));
      }
    }
    return reports;
  }
};

/// Weights, running statistics and buffers of everything the method owns.
inline std::vector<double> state_of(Method& method) {
  std::vector<double> state;
  const auto append = [&](const Tensor& tensor) {
    const std::vector<double> values = tensor.to_doubles();
    state.insert(state.end(), values.begin(), values.end());
  };
  for (const auto& [name, network] : method.networks()) {
    append(network->parameters().values());
    append(network->parameters().buffer_values());
  }
  for (const auto& [name, tensor] : method.buffers()) append(*tensor);
  return state;
}

/// Two runs agree in every bit, and so does one that was saved after two iterations and continued by another
/// object. Returns the reports of the four iterations.
inline std::vector<StepReport> check_repeatable(const MethodProblem& problem) {
  INFO(problem.method, " with ", problem.setup.network.name);
  const auto whole = problem.build(), begun = problem.build(), continued = problem.build();
  const std::vector<StepReport> reports = problem.run(*whole, 0, 4);
  CHECK(problem.run(*begun, 0, 2)[1] == reports[1]);
  const TemporaryFolder folder;
  save_checkpoint(folder / "state.safetensors", *begun, {0, 2, -1, -1}, {});
  CHECK(load_checkpoint(folder / "state.safetensors", *continued, {}).iteration == 2);
  const std::vector<StepReport> rest = problem.run(*continued, 2, 4);
  CHECK(rest[0] == reports[2]);
  CHECK(rest[1] == reports[3]);
  CHECK(state_of(*continued) == state_of(*whole));
  return reports;
}

inline double value_of(const StepReport& report, const std::string& name) {
  for (const auto& [key, value] : report)
    if (key == name) return value;
  FAIL("no " << name << " in the report");
  return 0;
}

}  // namespace semivox::testing
