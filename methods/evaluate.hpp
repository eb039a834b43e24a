// Evaluation of many cases: scores of every case and class, and their statistics, with the conventions behind
// them.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "io/volume.hpp"
#include "methods/metrics.hpp"

namespace semivox {

enum class Units { voxel, millimetre };

const char* name_of(EmptyPolicy policy);  ///< "zero", "nan", "diagonal"
const char* name_of(Units units);         ///< "voxel", "mm"

/// What the numbers depend on besides the masks; kept with the results, because scores of different
/// conventions must not be compared.
struct EvaluationConventions {
  Units units = Units::voxel;
  EmptyPolicy empty = EmptyPolicy::zero;
  /// Reduce predictions to the largest 26-connected component of each class first.
  bool largest_component = false;
};

/// One case: `classes[i]` are the scores of label i + 1; the background is not scored.
struct CaseResult {
  std::string name;
  std::vector<Scores> classes;

  /// Mean over the classes of each score, in the order of kScoreNames; classes that are not-a-number left
  /// out.
  std::array<double, kScores> foreground() const;
};

/// Of the values that are numbers; all not-a-number when there is none.
struct Statistics {
  double mean = 0;
  double standard_deviation = 0;  ///< divides by the number of values, as numpy.std
  double median = 0;
  int64_t count = 0;  ///< of the values that are numbers
};
Statistics statistics_of(std::vector<double> values);

/// Statistics of each score, in the order of kScoreNames.
using ScoreStatistics = std::array<Statistics, kScores>;

struct Evaluation {
  EvaluationConventions conventions;
  std::vector<CaseResult> cases;
  std::vector<ScoreStatistics> classes;  ///< over the cases, of label i + 1
  ScoreStatistics foreground;            ///< over the cases, of CaseResult::foreground
};

/// Scores labels 1 ... classes-1 of a case. Distances in mm take the reference's spacing. Both maps have one
/// shape.
CaseResult evaluate_case(const std::string& name, const io::LabelMap& prediction,
                         const io::LabelMap& reference, int classes,
                         const EvaluationConventions& conventions);

/// Puts cases, all of the same classes, and their statistics together.
Evaluation summarize(const EvaluationConventions& conventions, std::vector<CaseResult> cases);

/// A table for the terminal: one row per case (mean over its classes), then mean, std and median, and with
/// several classes the mean of each. Dice and Jaccard in percent.
std::string format_table(const Evaluation& evaluation);

}  // namespace semivox
