// Training state in one safetensors file: every network, optimiser and buffer of a method, and where the run
// stands.
//
// Names are `<network>/<parameter>`, `optimizer/<name>/<state>` and `buffer/<name>`. Random numbers need no
// state: they are a function of seed and iteration. A run that continues from such a file ends in the same
// weights, bit for bit, as one that was never interrupted.
#pragma once

#include <map>
#include <string>

#include "methods/method.hpp"

namespace semivox {

/// Where a run stands: `iteration` iterations of phase `phase` are done.
struct Progress {
  int64_t phase = 0;
  int64_t iteration = 0;
  /// Highest validation Dice of the run's last phase so far, -1 before the first validation.
  double best_dice = -1;
  double best_phase_dice = -1;  ///< the same within the current phase
};

using Metadata = std::map<std::string, std::string>;

/// Writes the state atomically. `metadata` is stored beside it; keys that begin with "run." must be equal on
/// resume.
void save_checkpoint(const std::string& path, Method& method, const Progress& progress,
                     const Metadata& metadata);

/// Throws UsageError naming the first "run." key in which the state at `path` differs from `metadata`,
/// DataError for a broken file.
void check_same_run(const std::string& path, const Metadata& metadata);

/// Restores a state. Throws UsageError naming the first "run." key that differs from `metadata`, DataError
/// for a broken file.
Progress load_checkpoint(const std::string& path, Method& method, const Metadata& metadata);

/// Writes one network's weights under PyTorch's plain names, with the network's options and `metadata`.
void save_weights(const std::string& path, const Network& network, const Metadata& metadata);

/// Writes all networks, names prefixed by the network's name: a snapshot for comparisons.
void save_networks(const std::string& path, Method& method, const Metadata& metadata);

}  // namespace semivox
