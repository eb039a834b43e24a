// Runs a method's iterations: on the CPU one by one, on a GPU recorded as a CUDA graph and replayed.
#pragma once

#include <memory>

#include "engine/step_recording.hpp"
#include "methods/method.hpp"

namespace semivox {

class StepRunner {
 public:
  /// Iterations of a phase that are queued before one is recorded: the first chooses the libraries'
  /// algorithms and fills caches, the second runs on them.
  static constexpr int kPreparations = 2;

  /// Random numbers are those of `seed`. With `replay` iterations on a GPU are recorded, if the method allows
  /// it and no profile is being taken, which shows the operations one by one.
  StepRunner(Method& method, Device device, uint64_t seed, bool replay, int preparations = kPreparations);

  /// One iteration of a phase, number `step` of the random numbers. Batches of one phase have one shape.
  StepReport operator()(const Batch& batch, int64_t phase, int64_t iteration, double learning_rate,
                        uint64_t step);

  /// To be called before anything but an iteration changes the method's networks or optimisers in a way that
  /// iterations have to know: another phase begins, weights are loaded.
  void forget();

 private:
  void record(const Batch& batch);

  Method& method_;
  Device device_;
  uint64_t seed_;
  bool replay_;
  int preparations_, prepared_ = 0;  // wanted, made

  // What a recorded iteration refers to.
  StepContext context_;
  double learning_rate_ = 0;
  uint64_t step_ = 0;
  Batch batch_;
  StepReader read_;
  std::unique_ptr<StepRecording> recording_;
};

}  // namespace semivox
