// The files that an evaluation's results are written to. Dice and Jaccard are fractions of 1 there.
#pragma once

#include <string>

#include "methods/evaluate.hpp"

namespace semivox {

/// Writes an object with the conventions in words ("conventions"), the statistics of the foreground ("mean",
/// "std", "median", and "count", how many values are numbers; each with "dice", "jaccard", "hd95", "asd"),
/// the same for each label ("classes"), and of every case ("cases") the foreground scores and, by label,
/// scores and voxel counts. Not-a-number is null. Throws DataError when the file cannot be written; a file of
/// that name is replaced as a whole or stays as it was.
void write_results_json(const std::string& path, const Evaluation& evaluation);

/// Writes a row per case and class: case, label, scores, voxel counts; then rows `mean`, `std` and `median`
/// of each label and of the label `foreground`, without counts. Not-a-number is an empty field. Errors as
/// above.
void write_results_csv(const std::string& path, const Evaluation& evaluation);

}  // namespace semivox
