// `semivox evaluate`: predictions of a folder scored against references of another.
#pragma once

#include <string>

#include "methods/evaluate.hpp"

namespace semivox {

struct EvaluateOptions {
  std::string
      prediction;  ///< folder of CASE.nii.gz, CASE.nii or CASE.png; CASE_prob<k> files are not looked at
  std::string reference;  ///< folder of CASE.nii.gz, CASE.nii or CASE.png
  EvaluationConventions conventions;
  int classes = 0;      ///< with background; 0: one more than the largest label of the references, at least 2
  bool subset = false;  ///< leave references without a prediction out
  std::string json;     ///< results file, none when empty
  std::string csv;      ///< results file, none when empty
};

/// Scores every case and writes the results files. Throws DataError for a missing folder, a case with two
/// files or without partner, different shapes, or labels beyond the classes.
Evaluation run_evaluate(const EvaluateOptions& options);

}  // namespace semivox
