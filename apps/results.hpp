// The files that an evaluation's results are written to. Dice and Jaccard are fractions of 1 there.
#pragma once

#include <string>

#include "methods/evaluate.hpp"

namespace semivox {

/// Writes {"conventions", "dice"..."asd" under "mean", "std", "median", "classes": [...], "cases": [...]}:
/// the conventions in words beside the numbers, statistics of the foreground and of each class, and of every
/// case its foreground scores and, by class, scores and voxel counts. Not-a-number is null. Throws DataError
/// when the file cannot be written; a file of that name is replaced as a whole or stays as it was.
void write_results_json(const std::string& path, const Evaluation& evaluation);

/// Writes a row per case and class: case, label, scores, voxel counts; then rows `mean`, `std` and `median`
/// of each label and of the label `foreground`, without counts. Not-a-number is an empty field. Errors as
/// above.
void write_results_csv(const std::string& path, const Evaluation& evaluation);

}  // namespace semivox
