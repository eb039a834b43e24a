// The scores of one case, all four together as `semivox evaluate` computes them.
#include <cstdio>

#include "apps/bench.hpp"
#include "apps/extent.hpp"
#include "engine/error.hpp"
#include "io/nifti.hpp"
#include "io/synth.hpp"
#include "methods/evaluate.hpp"

namespace semivox {
namespace {

constexpr int kLabelValues = 256;  // labels are 8-bit

/// The map moved by two voxels along every axis: a plausible prediction.
io::LabelMap shifted(const io::LabelMap& map) {
  io::LabelMap moved = map;
  const auto [d, h, w] = map.shape;
  const auto source = [](int64_t i) { return std::max<int64_t>(i - 2, 0); };
  for (int64_t i = 0; i < d; ++i) {
    for (int64_t j = 0; j < h; ++j) {
      for (int64_t k = 0; k < w; ++k) {
        moved.voxels[(i * h + j) * w + k] = map.voxels[(source(i) * h + source(j)) * w + source(k)];
      }
    }
  }
  return moved;
}

}  // namespace

BenchReport bench_metrics(const BenchOptions& options) {
  if (options.prediction.empty() != options.reference.empty()) {
    throw UsageError("--prediction, --reference: found one, expected both or none");
  }
  const bool synthetic = options.reference.empty();
  const io::LabelMap reference = synthetic ? io::synthesize_case({.size = options.size}, 0).label
                                           : io::read_nifti_labels(options.reference, kLabelValues);
  const io::LabelMap prediction =
      synthetic ? shifted(reference) : io::read_nifti_labels(options.prediction, kLabelValues);
  if (prediction.shape != reference.shape) {
    throw DataError(text(options.prediction, ": shape ", extent_text(prediction.shape), ", but ",
                         options.reference, " is ", extent_text(reference.shape)));
  }
  const int classes = std::max(2, 1 + *std::max_element(reference.voxels.begin(), reference.voxels.end()));

  BenchReport report;
  const auto voxels = static_cast<double>(reference.voxels.size());
  std::printf("%-44s %10s %12s\n", "work", "ms", "Mvoxel/s");
  CaseResult result;
  const auto row = [&](const char* work, const EvaluationConventions& conventions) {
    const double seconds = median_seconds(Device{}, options.iterations, [&] {
      result = evaluate_case("case", prediction, reference, classes, conventions);
    });
    std::printf("%-44s %10.2f %12.1f\n", work, seconds * 1e3, voxels / seconds * 1e-6);
    report.rows.push_back(
        {{"work", work}, {"ms", seconds * 1e3}, {"mvoxel_per_second", voxels / seconds * 1e-6}});
  };
  row("largest component, Dice, Jaccard, 95HD, ASD", {.largest_component = true});
  row("Dice, Jaccard, 95HD, ASD", {});
  report.details["shape"] = reference.shape;
  report.details["classes"] = classes;
  const std::array<double, kScores> scores = result.foreground();  // in voxels, of the last row
  for (int s = 0; s < kScores; ++s) report.details["scores"][kScoreNames[s]] = scores[s];
  return report;
}

}  // namespace semivox
