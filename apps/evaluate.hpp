// `semivox evaluate`: predictions of a folder scored against references of another.
#pragma once

#include <string>

#include "methods/evaluate.hpp"

namespace semivox {

struct EvaluateOptions {
  /// Folder of CASE.nii.gz, CASE.nii or CASE.png; CASE_prob<k> files are not looked at.
  std::string prediction;
  std::string reference;     ///< folder of CASE.nii.gz, CASE.nii or CASE.png, or a data set folder
  std::string list = "all";  ///< which cases of a data set folder, see `listed_cases`
  EvaluationConventions conventions;
  int classes = 0;  ///< with background; 0: the data set's, or one more than the largest label, at least 2
  bool subset = false;  ///< leave references without a prediction out
  std::string json;     ///< results file, none when empty
  std::string csv;      ///< results file, none when empty
};

/// Scores every case and writes the results files. Throws DataError for a missing folder, a case with two
/// files or without partner, different shapes, or labels beyond the classes.
Evaluation run_evaluate(const EvaluateOptions& options);

}  // namespace semivox
