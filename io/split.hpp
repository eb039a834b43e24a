// Which cases of a data set folder are trained on with their labels, which without, and which are validated.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/dataset.hpp"

namespace semivox::io {

/// Which cases are trained on and how; indices into `DatasetFolder::cases`.
struct Split {
  std::vector<int64_t> labeled;
  std::vector<int64_t> unlabeled;   ///< their labels, if any, stay hidden
  std::vector<int64_t> validation;  ///< all have labels
};

constexpr int64_t kAllCases = -1;

/// What `--labeled` and `--unlabeled` count.
enum class CountUnit {
  cases,
  patients,  ///< consecutive cases whose names agree up to the first underscore
  slices,    ///< of whole cases
};

/// Parses "cases", "patients" or "slices"; throws UsageError otherwise.
CountUnit parse_count_unit(const std::string& word);

/// What each case counts: 1 case, `slices[i]` slices, or 1 for the first case of a patient and 0 for those
/// that follow it in the training order. `slices`: per case of the folder, needed for that unit alone.
struct CaseCounts {
  CountUnit unit = CountUnit::cases;
  std::vector<int64_t> slices;
};

/// The first `labeled` training cases that have a label are labelled, and the first `unlabeled` of the others
/// are unlabelled. Throws UsageError when the set is too small for the counts, `labeled` is 0, or the counts
/// do not add up to whole cases.
Split make_split(const DatasetFolder& folder, int64_t labeled, int64_t unlabeled = kAllCases,
                 const CaseCounts& counts = {});

/// One line for the log: how many cases are labelled, unlabelled, validation, and how many have no label
/// file.
std::string describe(const DatasetFolder& folder, const Split& split);

}  // namespace semivox::io
