// One training run from a configuration: data, method, trainer, evaluation on the validation cases, run
// folder; and a rehearsal of it, which tells time and memory beforehand.
#pragma once

#include <optional>
#include <string>

#include "apps/run_config.hpp"
#include "methods/evaluate.hpp"
#include "methods/trainer.hpp"

namespace semivox {

struct RunRequest {
  std::string folder;  ///< the run folder
  bool resume = false;
  bool profile = false;           ///< print the per-op table and memory by tag at the end
  bool save_predictions = false;  ///< keep label maps and overlays of the validation cases in results/
};

struct RunOutcome {
  TrainingResult training;
  int64_t peak_memory = 0;               ///< bytes in use on the device at the highest point of training
  std::optional<Evaluation> evaluation;  ///< of the final weights on the validation cases, if there are any
};

/// Whether the run folder holds a state that `resume` would continue from.
bool has_state(const std::string& folder);

/// Trains and evaluates. Leaves config.toml, split.json, environment.json, metrics.jsonl, checkpoints/ and
/// results/ in the folder. A network that nobody named is the method's own. Throws UsageError when the folder
/// holds a run already and `resume` is off, Interrupted after a signal, with the state saved.
RunOutcome execute_run(const RunConfig& config, const RunRequest& request);

/// Makes two iterations of every phase on the first batches and prints what the training will take: peak
/// memory by tag and time, which is of the second iteration. Writes nothing. Throws as `execute_run` does,
/// OutOfMemory where the training would.
void rehearse_run(const RunConfig& config);

}  // namespace semivox
