// Iterations of a method on a GPU, queued one by one or recorded and replayed, for comparison.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/random.hpp"
#include "methods/step_runner.hpp"

namespace semivox {

struct ReplayCase {
  std::string method;
  std::string network = "vnet";
  std::map<std::string, std::string> options = {};
  std::string optimizer = "sgd";
  int preparations = 0;  ///< iterations of a phase before one is recorded and one is a replay
};

/// Options that make every iteration differ from the one before, of those that the method has.
inline std::map<std::string, std::string> moving_options(const MethodInfo& info) {
  static const std::map<std::string, std::string> wanted{{"rampup_unit", "1"},
                                                         {"rampup_length", "8"},
                                                         {"threshold_rampup", "8"},
                                                         {"passes", "2"},
                                                         {"epoch", "1"},
                                                         {"threshold_epochs", "8"},
                                                         {"pretrain", "0.5"},
                                                         {"noise_sticky", "true"},
                                                         {"negatives", "40"},
                                                         {"discriminator_filters", "4"}};
  OptionReader reader;
  info.make(reader);
  std::map<std::string, std::string> set;
  for (const OptionInfo& option : reader.options()) {
    if (const auto found = wanted.find(option.name); found != wanted.end()) set.insert(*found);
  }
  return set;
}

/// Random patches of 16 voxels a side, whose labels are where the image is bright.
inline Batch replay_batch(const Phase& phase, bool flat, uint64_t number, Device device) {
  const Shape shape{phase.labeled + phase.unlabeled, 1, flat ? 1 : 16, 16, 16};
  Tensor image = Tensor::empty(shape, DType::f32, {}), label = Tensor::empty(shape, DType::u8, {});
  const RandomStream random{number, 0, 0};
  for (int64_t i = 0; i < shape.elements(); ++i) {
    const float value = random.uniform(static_cast<uint64_t>(i)) * 2 - 1;
    image.data<float>()[i] = value;
    label.data<uint8_t>()[i] = value > 0.3f;
  }
  return {image.to(device), label.to(device), phase.labeled};
}

/// Trains a replayable method: every reported number, a prediction between two iterations of a phase, the
/// weights and counters at the end. `scope(recorded)` gives something that lives during an
/// iteration, and around all of them.
template <class Scope>
std::vector<std::vector<double>> train_with_replays(const ReplayCase& c, Device device, bool replay,
                                                    const Scope& scope) {
  [[maybe_unused]] auto during = scope(false);
  const MethodInfo& info = find_method(c.method);
  std::map<std::string, std::string> set = moving_options(info);
  for (const auto& [name, value] : c.options) set[name] = value;
  OptionReader options(set);
  const std::unique_ptr<Method> method = info.make(options);
  options.finish(info.name);
  MethodSetup setup;
  setup.network.name = c.network;
  setup.network.filters = 2;
  setup.device = device;
  const int64_t recorded = c.preparations, iterations = recorded + 2;  // of a phase
  setup.iterations = 2 * iterations;
  setup.batch = c.method == "ict" ? 4 : 2;  // ICT mixes pairs
  setup.optimizer.name = c.optimizer;
  method->build(setup);
  const bool flat = make_network({.name = c.network})->divisor()[0] == 1;
  StepRunner step(*method, device, 3, replay, c.preparations);
  std::vector<std::vector<double>> numbers;
  const std::vector<Phase> phases = method->phases(setup);
  uint64_t done = 0;
  for (size_t p = 0; p < phases.size(); ++p) {
    if (p > 0) {
      step.forget();
      method->begin_phase(static_cast<int64_t>(p));
    }
    for (int64_t t = 0; t < iterations; ++t) {
      during = scope(replay && t == recorded);
      const Batch batch = replay_batch(phases[p], flat, ++done, device);
      const double learning_rate = 0.01 / static_cast<double>(t + 1);
      for (const auto& [name, value] : step(batch, static_cast<int64_t>(p), t, learning_rate, done))
        numbers.push_back({value});
      if (t != recorded) continue;
      const NoGrad no_grad;
      const Variable image(batch.image.samples(0, 1));
      numbers.push_back(method->student().forward(image, Pass{}).value().to_doubles());
    }
  }
  for (const auto& [name, network] : method->networks()) {
    numbers.push_back(network->parameters().values().to_doubles());
    numbers.push_back(network->parameters().buffer_values().to_doubles());
  }
  for (const auto& [name, optimizer] : method->optimizers())
    numbers.push_back({static_cast<double>(optimizer->steps())});
  return numbers;
}

}  // namespace semivox
