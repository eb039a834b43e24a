// The trainer: drives any method through its phases. Batches, validation, checkpoints, resuming, logs and
// progress are here; what an iteration does is the method's business.
#pragma once

#include <string>

#include "methods/checkpoint.hpp"
#include "methods/method.hpp"
#include "methods/sliding_window.hpp"

namespace semivox {

/// Where the trainer gets its data from.
class TrainingData {
 public:
  virtual ~TrainingData() = default;

  /// The batch of one iteration of a phase: a pure function of its arguments, so that nothing has to be
  /// saved.
  virtual Batch batch(const Phase& phase, int64_t phase_index, int64_t iteration) = 0;

  struct ValidationCase {
    Tensor image;  ///< (1, C, D, H, W) f32
    Tensor label;  ///< (1, 1, D, H, W) u8
  };
  virtual int64_t validation_cases() const = 0;
  virtual ValidationCase validation_case(int64_t index) = 0;
};

struct TrainerOptions {
  std::string folder;              ///< the run folder; it exists and is writable
  int64_t validate_every = 200;    ///< iterations; 0 = never
  int64_t checkpoint_every = 200;  ///< iterations between two saves of checkpoints/latest.safetensors
  int64_t dump_every = 0;          ///< iterations between snapshots of all networks in dumps/; 0 = none
  int64_t report_every = 50;       ///< iterations per progress line when the output is no terminal
  WindowOptions window;            ///< of the validation
  bool graph = true;               ///< on a GPU: record the iteration as a CUDA graph and replay it
  bool resume = false;             ///< continue from checkpoints/latest.safetensors when it is there
  Metadata metadata;               ///< stored in every weights file; "run." keys must agree on resume
};

struct TrainingResult {
  int64_t iterations = 0;   ///< made by this call
  double seconds = 0;       ///< of this call
  double data_seconds = 0;  ///< spent waiting for batches
  double validation_seconds = 0;
  double best_dice = -1;  ///< -1 without validation
};

/// Trains, and leaves metrics.jsonl and checkpoints/{latest,best,final}.safetensors in the run folder.
/// `method` has been built with `setup`. Throws Interrupted, after saving, when one of StopSignals arrives;
/// Diverged when a loss is not finite.
TrainingResult train(Method& method, const MethodSetup& setup, TrainingData& data,
                     const TrainerOptions& options);

/// Mean Dice over the foreground classes of two label maps (1,1,D,H,W) u8; a class missing in both counts 1.
double mean_dice(const Tensor& prediction, const Tensor& reference, int64_t classes);

}  // namespace semivox
