#include "methods/evaluate.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iomanip>
#include <limits>
#include <sstream>
#include <utility>

#include "engine/error.hpp"
#include "engine/tensor.hpp"
#include "kernels/components.hpp"

namespace semivox {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Statistics of each score over the cases; `score(case)` gives a case's scores.
template <class F>
ScoreStatistics over_cases(const std::vector<CaseResult>& cases, const F& score) {
  ScoreStatistics statistics;
  for (int s = 0; s < kScores; ++s) {
    std::vector<double> values;
    for (const CaseResult& result : cases) values.push_back(score(result)[s]);
    statistics[s] = statistics_of(std::move(values));
  }
  return statistics;
}

std::vector<uint8_t> largest_components(const io::LabelMap& labels, int classes) {
  const Shape shape{1, 1, labels.shape[0], labels.shape[1], labels.shape[2]};
  Tensor tensor = Tensor::empty(shape, DType::u8, Device{}, MemoryTag::workspace);
  std::memcpy(tensor.raw(), labels.voxels.data(), labels.voxels.size());
  kernels::largest_component_per_class(tensor, classes, 26, tensor);
  return {tensor.data<uint8_t>(), tensor.data<uint8_t>() + tensor.elements()};
}

/// One row of the table; `values` in the order of kScoreNames.
void print_row(std::ostream& out, size_t name_width, const std::string& name,
               const std::array<double, kScores>& values) {
  constexpr std::array<double, kScores> kFactor{100, 100, 1, 1};  // Dice and Jaccard in percent
  out << std::left << std::setw(static_cast<int>(name_width)) << name << std::right;
  for (int s = 0; s < kScores; ++s) out << std::setw(13) << values[s] * kFactor[s];
  out << '\n';
}

template <class F>
std::array<double, kScores> each(const ScoreStatistics& statistics, const F& member) {
  std::array<double, kScores> values{};
  for (int s = 0; s < kScores; ++s) values[s] = statistics[s].*member;
  return values;
}

}  // namespace

const char* name_of(EmptyPolicy policy) {
  switch (policy) {
    case EmptyPolicy::zero:
      return "zero";
    case EmptyPolicy::nan:
      return "nan";
    case EmptyPolicy::diagonal:
      return "diagonal";
  }
  throw InternalError("unknown empty policy");
}

const char* name_of(Units units) { return units == Units::voxel ? "voxel" : "mm"; }

std::array<double, kScores> CaseResult::foreground() const {
  std::array<double, kScores> means{};
  for (int s = 0; s < kScores; ++s) {
    std::vector<double> values;
    for (const Scores& scores : classes) values.push_back(scores.values()[s]);
    means[s] = statistics_of(std::move(values)).mean;
  }
  return means;
}

Statistics statistics_of(std::vector<double> values) {
  std::erase_if(values, [](double value) { return std::isnan(value); });
  if (values.empty()) return {kNaN, kNaN, kNaN, 0};
  const double n = static_cast<double>(values.size());
  double sum = 0;
  for (const double value : values) sum += value;
  const double mean = sum / n;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  std::sort(values.begin(), values.end());
  const double median = 0.5 * (values[(values.size() - 1) / 2] + values[values.size() / 2]);
  return {mean, std::sqrt(squares / n), median, static_cast<int64_t>(values.size())};
}

CaseResult evaluate_case(const std::string& name, const io::LabelMap& prediction,
                         const io::LabelMap& reference, int classes,
                         const EvaluationConventions& conventions) {
  SEMIVOX_CHECK(prediction.shape == reference.shape, name);
  const std::array<double, 3> voxel{1, 1, 1};
  const auto& spacing = conventions.units == Units::voxel ? voxel : reference.geometry.spacing;
  const std::vector<uint8_t> predicted =
      conventions.largest_component ? largest_components(prediction, classes) : prediction.voxels;
  CaseResult result{name, {}};
  for (int label = 1; label < classes; ++label) {
    result.classes.push_back(segmentation_scores(predicted.data(), reference.voxels.data(), reference.shape,
                                                 static_cast<uint8_t>(label), spacing, conventions.empty));
  }
  return result;
}

Evaluation summarize(const EvaluationConventions& conventions, std::vector<CaseResult> cases) {
  Evaluation evaluation{conventions, std::move(cases), {}, {}};
  const size_t classes = evaluation.cases.empty() ? 0 : evaluation.cases.front().classes.size();
  for (size_t i = 0; i < classes; ++i) {
    evaluation.classes.push_back(over_cases(
        evaluation.cases, [i](const CaseResult& result) { return result.classes.at(i).values(); }));
  }
  evaluation.foreground =
      over_cases(evaluation.cases, [](const CaseResult& result) { return result.foreground(); });
  return evaluation;
}

std::string format_table(const Evaluation& evaluation) {
  const std::string unit = name_of(evaluation.conventions.units);
  size_t name_width = std::string("class 255 mean").size();
  for (const CaseResult& result : evaluation.cases) name_width = std::max(name_width, result.name.size());
  std::ostringstream out;
  out << std::fixed << std::setprecision(2);
  out << std::left << std::setw(static_cast<int>(name_width)) << "case" << std::right;
  for (const std::string& title :
       {std::string("Dice %"), std::string("Jaccard %"), "95HD " + unit, "ASD " + unit}) {
    out << std::setw(13) << title;
  }
  const std::string rule(name_width + 13 * kScores, '-');
  out << '\n' << rule << '\n';
  for (const CaseResult& result : evaluation.cases)
    print_row(out, name_width, result.name, result.foreground());
  out << rule << '\n';
  print_row(out, name_width, "mean", each(evaluation.foreground, &Statistics::mean));
  print_row(out, name_width, "std", each(evaluation.foreground, &Statistics::standard_deviation));
  print_row(out, name_width, "median", each(evaluation.foreground, &Statistics::median));
  if (evaluation.classes.size() > 1) {
    for (size_t i = 0; i < evaluation.classes.size(); ++i) {
      print_row(out, name_width, text("class ", i + 1, " mean"),
                each(evaluation.classes[i], &Statistics::mean));
    }
  }
  return out.str();
}

}  // namespace semivox
