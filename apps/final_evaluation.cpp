#include "apps/final_evaluation.hpp"

#include <cstdio>
#include <cstring>
#include <filesystem>

#include "apps/results.hpp"
#include "engine/stop_signals.hpp"
#include "io/batch.hpp"
#include "io/nifti.hpp"
#include "io/overlay.hpp"
#include "io/resample.hpp"

namespace semivox {

namespace fs = std::filesystem;

namespace {

/// Probabilities (1, classes, D, H, W) of the cached grid as (D, H, W, classes) in the array order of the
/// file.
std::vector<float> probabilities_of_file(const io::CachedCase& cached, const Tensor& host) {
  const float* begin = host.data<float>();
  if (cached.slice_axis <= 0) return {begin, begin + host.elements()};
  const std::vector<std::byte> bytes =
      io::in_array_order(cached, begin, host.shape().c * static_cast<int64_t>(sizeof(float)));
  std::vector<float> values(static_cast<size_t>(host.elements()));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace

Evaluation evaluate_final(Network& network, const RunPlan& plan, const CachedData& data,
                          const std::string& out, bool save_predictions) {
  const io::DatasetFolder& folder = plan.folder;
  EvaluationConventions conventions;
  conventions.largest_component = plan.largest_component;
  const std::string results = out + "/results";
  fs::create_directories(results);
  std::vector<CaseResult> cases;
  for (size_t i = 0; i < plan.split.validation.size(); ++i) {
    if (StopSignals::stop_requested()) {
      throw Interrupted(text("stopped after ", i, " of ", plan.split.validation.size(),
                             " validation cases; the weights are saved in ", out, "/checkpoints"));
    }
    const io::CaseFiles& files = folder.cases[static_cast<size_t>(plan.split.validation[i])];
    const io::CachedCase& cached = data.validation()[i];
    const Tensor host = predict_probabilities(network, io::whole_image(cached), plan.window).to(Device{});
    io::LabelMap prediction;
    prediction.shape = cached.input_shape;
    prediction.geometry = cached.input_geometry;
    prediction.voxels = io::resample_argmax(probabilities_of_file(cached, host), host.shape().c,
                                            io::array_shape(cached), cached.input_shape);
    const io::LabelMap reference = io::read_case_label(files, folder.classes());
    cases.push_back(evaluate_case(files.id, prediction, reference, folder.classes(), conventions));
    if (save_predictions) {
      fs::create_directories(results + "/predictions");
      char caption[64];
      std::snprintf(caption, sizeof caption, " dice %.3f", cases.back().foreground()[0]);
      io::write_nifti_labels(text(results, "/predictions/", files.id, ".nii.gz"), prediction);
      io::write_overlay(text(results, "/predictions/", files.id, ".png"),
                        io::read_case_channels(files).front(), prediction, &reference, files.id + caption);
    }
  }
  Evaluation evaluation = summarize(conventions, std::move(cases));
  write_results_json(results + "/validation.json", evaluation);
  write_results_csv(results + "/validation.csv", evaluation);
  return evaluation;
}

}  // namespace semivox
