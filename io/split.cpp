#include "io/split.hpp"

#include <algorithm>

#include "engine/error.hpp"

namespace semivox::io {
namespace {

std::string patient_of(const CaseFiles& files) { return files.id.substr(0, files.id.find('_')); }

/// What each case of the folder counts.
std::vector<int64_t> case_weights(const DatasetFolder& folder, const CaseCounts& counts) {
  if (counts.unit == CountUnit::slices) {
    SEMIVOX_CHECK(counts.slices.size() == folder.cases.size(), counts.slices.size(), " slice counts");
    return counts.slices;
  }
  std::vector<int64_t> weights(folder.cases.size(), 1);
  if (counts.unit == CountUnit::cases) return weights;
  for (size_t i = 1; i < folder.training.size(); ++i) {
    const CaseFiles& previous = folder.cases[folder.training[i - 1]];
    if (patient_of(folder.cases[folder.training[i]]) == patient_of(previous)) weights[folder.training[i]] = 0;
  }
  return weights;
}

}  // namespace

CountUnit parse_count_unit(const std::string& word) {
  if (word == "cases") return CountUnit::cases;
  if (word == "patients") return CountUnit::patients;
  if (word == "slices") return CountUnit::slices;
  throw UsageError(text("labeled_unit: found '", word, "', expected cases, patients or slices"));
}

Split make_split(const DatasetFolder& folder, int64_t labeled, int64_t unlabeled, const CaseCounts& counts) {
  const char* const unit = counts.unit == CountUnit::cases      ? ""
                           : counts.unit == CountUnit::patients ? " patients"
                                                                : " slices";
  const std::vector<int64_t> weights = case_weights(folder, counts);
  Split split;
  split.validation = folder.validation;
  int64_t with_label = 0, taken = 0, next = 0;  // in the unit
  bool full = false;
  for (const int64_t index : folder.training) {
    const bool has_label = !folder.cases[index].label.empty();
    if (has_label) with_label += weights[index];
    if (has_label && !full && labeled != kAllCases && taken + weights[index] > labeled) {
      full = true;
      next = taken + weights[index];
    }
    const bool take = has_label && !full;
    if (take) taken += weights[index];
    (take ? split.labeled : split.unlabeled).push_back(index);
  }
  if (labeled != kAllCases && (labeled < 1 || labeled > with_label)) {
    throw UsageError(text("--labeled ", labeled, unit, ": expected 1...", with_label,
                          ", the training cases with a label in ", folder.path));
  }
  if (labeled != kAllCases && taken != labeled) {
    throw UsageError(text("--labeled ", labeled, unit,
                          ": expected a number of slices of whole cases, such as ",
                          taken == 0 ? "" : text(taken, " or "), next, " in ", folder.path));
  }
  if (split.labeled.empty()) throw DataError(text(folder.path, ": no training case has a label"));
  if (unlabeled != kAllCases) {
    int64_t available = 0, used = 0;
    for (const int64_t index : split.unlabeled) available += weights[index];
    if (unlabeled < 0 || unlabeled > available) {
      throw UsageError(text("--unlabeled ", unlabeled, unit, ": expected 0...", available,
                            ", the training cases of ", folder.path, " that are left beside ",
                            split.labeled.size(), " labelled ones"));
    }
    size_t keep = 0;
    while (keep < split.unlabeled.size() && used + weights[split.unlabeled[keep]] <= unlabeled)
      used += weights[split.unlabeled[keep++]];
    if (unlabeled == 0) keep = 0;
    split.unlabeled.resize(keep);
  }
  return split;
}

std::string describe(const DatasetFolder& folder, const Split& split) {
  const auto without_label =
      std::count_if(folder.cases.begin(), folder.cases.end(), [](const auto& c) { return c.label.empty(); });
  std::string line =
      text(folder.name, ": ", split.labeled.size(), " labelled, ", split.unlabeled.size(), " unlabelled, ",
           split.validation.size(), " validation cases, ", folder.classes(), " classes");
  if (without_label > 0)
    line += text("; ", without_label, " cases have no label file and count as unlabelled");
  const size_t named = folder.training.size() + folder.validation.size() + folder.test.size();
  if (named < folder.cases.size())
    line += text("; ", folder.cases.size() - named, " cases are not in splits.json");
  return line;
}

}  // namespace semivox::io
