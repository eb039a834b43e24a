// A method through its interface on a tiny problem: finite terms, a falling loss, the same numbers again, and
// a checkpoint after which it goes on as if nothing had happened.
#pragma once

#include <doctest/doctest.h>

#include <cmath>

#include "methods/checkpoint.hpp"
#include "tests/gradients.hpp"
#include "tests/hash_noise.hpp"
#include "tests/temporary_folder.hpp"

namespace semivox::testing {

/// What is trained, on how much. The batch is the same in every iteration.
struct TinyProblem {
  NetworkOptions network;
  Shape batch;
  int64_t iterations = 6;
  double learning_rate = 0.05;
  DType precision = DType::f32;

  MethodSetup setup() const {
    MethodSetup made;
    made.network = network;
    made.precision = precision;
    made.iterations = iterations;
    made.batch = batch.n;
    made.learning_rate = {.kind = LearningRate::Kind::constant, .base = learning_rate};
    return made;
  }

  /// Waves with noise; labels follow the waves.
  Batch data(int64_t labeled) const {
    const auto wave = [&](int64_t i) { return std::sin(0.4 * static_cast<double>(i)); };
    Batch made{by_formula<float>(batch, [&](int64_t i) { return wave(i) + 0.3 * hash_noise(i, 1); }),
               by_formula<uint8_t>(
                   batch.with_channels(1),
                   [&](int64_t i) { return (wave(i) + 1) / 2 * static_cast<double>(network.classes); }),
               labeled};
    const Tensor hidden = made.label.samples(labeled, batch.n - labeled);
    std::fill_n(hidden.data<uint8_t>(), hidden.elements(), uint8_t{0});
    return made;
  }
};

inline std::unique_ptr<Method> build_method(const std::string& name,
                                            const std::map<std::string, std::string>& options,
                                            const MethodSetup& setup) {
  OptionReader reader(options);
  std::unique_ptr<Method> method = find_method(name).make(reader);
  reader.finish("method " + name);
  method->build(setup);
  return method;
}

/// One iteration; every number of its report is finite.
inline StepReport checked_step(Method& method, const Batch& batch, const StepContext& context) {
  const StepReport report = method.step(batch, context);
  CHECK(report[0].first == "loss");
  for (const auto& [term, value] : report) {
    INFO("phase ", context.phase, ", iteration ", context.iteration, ": ", term);
    CHECK(std::isfinite(value));
  }
  return report;
}

/// Reports of the iterations first ... last-1; `seed` is that of the random streams.
inline std::vector<StepReport> run_steps(Method& method, const TinyProblem& problem, int64_t first,
                                         int64_t last, uint64_t seed = MethodSetup().seed) {
  const MethodSetup setup = problem.setup();
  const Batch batch = problem.data(method.phases(setup)[0].labeled);
  std::vector<StepReport> reports;
  for (int64_t t = first; t < last; ++t) {
    Random random(seed, static_cast<uint64_t>(t) + 1);
    reports.push_back(checked_step(method, batch, {0, t, setup.learning_rate.at(t), &random}));
  }
  return reports;
}

/// Weights and running statistics of all networks of a method, and its buffers.
inline std::vector<double> state_of(Method& method) {
  std::vector<double> all;
  const auto append = [&](const Tensor& t) {
    const std::vector<double> values = t.to_doubles();
    all.insert(all.end(), values.begin(), values.end());
  };
  for (const auto& [name, network] : method.networks()) {
    append(network->parameters().values());
    append(network->parameters().buffer_values());
  }
  for (const auto& [name, buffer] : method.buffers()) append(*buffer);
  return all;
}

/// A new build of the same method that was loaded from a checkpoint of `method`.
inline std::unique_ptr<Method> reload(Method& method, const std::string& name,
                                      const std::map<std::string, std::string>& options, MethodSetup setup,
                                      const Progress& progress) {
  const TemporaryFolder folder;
  save_checkpoint(folder / "latest.safetensors", method, progress, {});
  setup.seed += 1;  // first weights must not matter
  std::unique_ptr<Method> loaded = build_method(name, options, setup);
  const Progress found = load_checkpoint(folder / "latest.safetensors", *loaded, {});
  CHECK(found.phase == progress.phase);
  CHECK(found.iteration == progress.iteration);
  CHECK(state_of(*loaded) == state_of(method));
  return loaded;
}

/// All of it for methods of one phase. Returns the reports of an uninterrupted run.
inline std::vector<StepReport> check_method(const std::string& name,
                                            const std::map<std::string, std::string>& options,
                                            const TinyProblem& problem) {
  INFO(name, " with ", problem.network.name);
  const OneThread one_thread;
  const MethodSetup setup = problem.setup();
  const auto method = build_method(name, options, setup);
  const std::vector<StepReport> reports = run_steps(*method, problem, 0, problem.iterations);
  CHECK(reports.back()[0].second < reports.front()[0].second);

  const int64_t half = problem.iterations / 2;
  const auto interrupted = build_method(name, options, setup);
  std::vector<StepReport> again = run_steps(*interrupted, problem, 0, half);
  const auto resumed = reload(*interrupted, name, options, setup, {0, half});
  for (const StepReport& report : run_steps(*resumed, problem, half, problem.iterations))
    again.push_back(report);
  CHECK(again == reports);
  CHECK(state_of(*resumed) == state_of(*method));
  return reports;
}

/// True when three iterations depend on the seed of the random streams.
inline bool is_random(const std::string& name, const std::map<std::string, std::string>& options,
                      const TinyProblem& problem) {
  const auto one = build_method(name, options, problem.setup()),
             other = build_method(name, options, problem.setup());
  const bool same_reports = run_steps(*one, problem, 0, 3) == run_steps(*other, problem, 0, 3, 99);
  return !same_reports || state_of(*one) != state_of(*other);
}

/// The number of a report that is called `term`.
inline double term_of(const StepReport& report, const std::string& term) {
  for (const auto& [name, value] : report) {
    if (name == term) return value;
  }
  FAIL("no term ", term);
  return 0;
}

}  // namespace semivox::testing
