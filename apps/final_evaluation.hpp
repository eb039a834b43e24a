// The validation cases of a run, predicted by its final weights and scored.
#pragma once

#include <string>

#include "apps/run_plan.hpp"
#include "methods/evaluate.hpp"

namespace semivox {

/// Predicts every validation case on the grid of its file and scores it there. Writes
/// OUT/results/validation.json and .csv and, with `save_predictions`, label maps and pictures.
Evaluation evaluate_final(Network& network, const RunPlan& plan, const CachedData& data,
                          const std::string& out, bool save_predictions);

}  // namespace semivox
