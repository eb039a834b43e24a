#include "apps/cached_data.hpp"

#include <numeric>

#include "io/batch.hpp"

namespace semivox {

namespace {

std::vector<io::Normalization> normalization(const RunConfig& config, const io::DatasetFolder& folder) {
  const std::string& words = config.value("data.normalize");
  if (words != "auto") return io::parse_normalizations(words);
  std::vector<io::Normalization> list;
  for (const std::string& channel : folder.channels) list.push_back(io::normalization_of_channel(channel));
  return list;
}

std::vector<int64_t> numbers(int64_t first, int64_t count) {
  std::vector<int64_t> list(static_cast<size_t>(count));
  std::iota(list.begin(), list.end(), first);
  return list;
}

}  // namespace

DataOptions data_options(const RunConfig& config, const io::DatasetFolder& folder) {
  DataOptions options;
  options.dims = config.integer("data.dims", 2);
  if (options.dims > 3) throw UsageError(text("data.dims: found ", options.dims, ", expected 2 or 3"));
  options.preparation = {normalization(config, folder), config.spacing("data.spacing")};
  options.fit = io::parse_slice_fit(config.value("data.fit"));
  options.augment = io::parse_augment_mode(config.value("data.augment"));
  options.patch = config.extent("train.patch");
  options.seed = static_cast<uint64_t>(config.integer("train.seed", 0));
  const std::string& order = config.value("data.order");
  if (order != "shuffled" && order != "fixed") {
    throw UsageError(text("data.order: found '", order, "', expected shuffled or fixed"));
  }
  options.order = order == "fixed" ? io::Order::fixed : io::Order::shuffled;
  const io::SliceAxis axis = io::parse_slice_axis(config.value("data.slice_axis"));
  if (options.dims == 2) {
    options.preparation.slice_axis = axis;
    if (options.patch[0] != 1) {
      throw UsageError(text("train.patch: found ", config.value("train.patch"),
                            ", expected HxW, such as 256x256, with data.dims = 2"));
    }
  } else if (options.augment == io::AugmentMode::rotate ||
             options.augment == io::AugmentMode::rotflip_rotate) {
    throw UsageError(
        text("data.augment: found '", config.value("data.augment"),
             "', which is for slices, expected rotflip, crop, distort or none with data.dims = 3"));
  }
  return options;
}

io::Split run_split(const RunConfig& config, const io::DatasetFolder& folder, const DataOptions& options,
                    bool semi_supervised) {
  io::CaseCounts counts{io::parse_count_unit(config.value("data.labeled_unit")), {}};
  if (counts.unit == io::CountUnit::slices) {
    if (options.dims != 2)
      throw UsageError("data.labeled_unit: found slices, expected data.dims = 2 with it");
    counts.slices = io::count_slices(folder, folder.training, options.preparation.slice_axis);
  }
  const int64_t unlabeled = config.integer("data.unlabeled", -1);
  return io::make_split(folder, config.integer("data.labeled", 1), semi_supervised ? unlabeled : 0, counts);
}

CachedData::CachedData(const DataOptions& options, const io::DatasetFolder& folder, const io::Split& split,
                       Device device)
    : options_(options),
      labeled_(io::load_cases(folder, split.labeled, io::Labels::read, options.preparation, device)),
      unlabeled_(io::load_cases(folder, split.unlabeled, io::Labels::hide, options.preparation, device)),
      validation_(io::load_cases(folder, split.validation, io::Labels::read, options.preparation, device)) {
  for (const auto* list : {&labeled_, &unlabeled_}) {
    for (const io::CachedCase& cached : *list) {
      const int64_t slices = options.dims == 2 ? cached.shape[0] : 1;
      for (int64_t s = 0; s < slices; ++s) units_.push_back({&cached, s});
    }
    if (list == &labeled_) labeled_units_ = static_cast<int64_t>(units_.size());
  }
}

Batch CachedData::batch(const Phase& phase, int64_t phase_index, int64_t iteration) {
  // Every phase has streams of its own; the samples' augmentation is drawn from the same key.
  const uint64_t seed = options_.seed + static_cast<uint64_t>(phase_index) * 0x9e3779b97f4a7c15u;
  if (!sampler_ || sampler_phase_ != phase_index) {
    sampler_.emplace(numbers(0, labeled_units_), phase.labeled, numbers(labeled_units_, unlabeled_units()),
                     phase.unlabeled, seed, options_.order);
    sampler_phase_ = phase_index;
  }
  const auto step = static_cast<uint64_t>(iteration);
  std::vector<io::SliceOfCase> units;
  for (const int64_t i : sampler_->batch(iteration)) units.push_back(units_[static_cast<size_t>(i)]);
  io::Batch made;
  if (options_.dims == 2) {
    made = io::make_slice_batch(units, options_.patch[1], options_.patch[2], options_.fit, options_.augment,
                                seed, step);
  } else {
    std::vector<const io::CachedCase*> cases;
    for (const io::SliceOfCase& unit : units) cases.push_back(unit.cached);
    made = io::make_batch(cases, options_.patch, options_.augment, seed, step);
  }
  return {made.image, made.label, phase.labeled};
}

TrainingData::ValidationCase CachedData::validation_case(int64_t index) {
  const io::CachedCase& c = validation_[static_cast<size_t>(index)];
  return {io::whole_image(c), c.label};
}

int64_t CachedData::bytes() const {
  int64_t total = 0;
  for (const auto* list : {&labeled_, &unlabeled_, &validation_}) {
    for (const io::CachedCase& c : *list) total += c.bytes();
  }
  return total;
}

}  // namespace semivox
