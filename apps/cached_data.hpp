// Cached cases behind the trainer's interface: batches of patches of volumes, or of slices.
#pragma once

#include <optional>
#include <vector>

#include "apps/run_config.hpp"
#include "io/case_cache.hpp"
#include "io/sampler.hpp"
#include "io/slice_augment.hpp"
#include "io/split.hpp"
#include "methods/trainer.hpp"

namespace semivox {

/// How the data of a run are read and cut, out of its configuration.
struct DataOptions {
  int64_t dims = 3;  ///< 3: patches of volumes; 2: slices
  io::Preparation preparation;
  io::SliceFit fit = io::SliceFit::zoom;
  io::AugmentMode augment = io::AugmentMode::rotflip;
  io::Order order = io::Order::shuffled;
  io::Extent3 patch{0, 0, 0};  ///< one slice, 1xHxW, with dims = 2
  uint64_t seed = 0;

  bool zooms() const { return dims == 2 && fit == io::SliceFit::zoom; }
};

/// Reads the data section of a configuration. Throws UsageError for words that are unknown or do not go
/// together.
DataOptions data_options(const RunConfig& config, const io::DatasetFolder& folder);

/// The cases of the run by the configuration's counts (data.labeled, data.unlabeled, data.labeled_unit).
/// Without `semi_supervised` there are no unlabelled ones.
io::Split run_split(const RunConfig& config, const io::DatasetFolder& folder, const DataOptions& options,
                    bool semi_supervised);

class CachedData : public TrainingData {
 public:
  CachedData(const DataOptions& options, const io::DatasetFolder& folder, const io::Split& split,
             Device device);

  Batch batch(const Phase& phase, int64_t phase_index, int64_t iteration) override;
  int64_t validation_cases() const override { return static_cast<int64_t>(validation_.size()); }
  ValidationCase validation_case(int64_t index) override;

  const std::vector<io::CachedCase>& validation() const { return validation_; }
  int64_t labeled_units() const { return labeled_units_; }  ///< cases, or slices with dims = 2
  int64_t unlabeled_units() const { return static_cast<int64_t>(units_.size()) - labeled_units_; }
  int64_t bytes() const;

 private:
  DataOptions options_;
  std::vector<io::CachedCase> labeled_, unlabeled_, validation_;
  std::vector<io::SliceOfCase> units_;  // what batches are drawn from: labelled, then unlabelled
  int64_t labeled_units_ = 0;
  std::optional<io::BatchSampler> sampler_;
  int64_t sampler_phase_ = -1;
};

}  // namespace semivox
