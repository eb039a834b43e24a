#include "apps/training_run.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "apps/cached_data.hpp"
#include "apps/commands.hpp"
#include "apps/environment.hpp"
#include "apps/extent.hpp"
#include "apps/results.hpp"
#include "engine/atomic_file.hpp"
#include "engine/parallel.hpp"
#include "engine/profile.hpp"
#include "io/batch.hpp"
#include "io/nifti.hpp"
#include "io/overlay.hpp"
#include "io/resample.hpp"
#include "methods/weights.hpp"

namespace semivox {

namespace fs = std::filesystem;

namespace {

DType parse_precision(const std::string& word) {
  if (word == "f32") return DType::f32;
  if (word == "bf16") return DType::bf16;
  if (word == "f64") return DType::f64;
  throw UsageError(text("train.precision: found '", word, "', expected f32, bf16 or f64"));
}

LearningRate learning_rate(const RunConfig& config) {
  LearningRate rate;
  const std::string& kind = config.value("train.schedule");
  if (kind == "constant") {
    rate.kind = LearningRate::Kind::constant;
  } else if (kind == "step") {
    rate.kind = LearningRate::Kind::step;
  } else if (kind == "poly") {
    rate.kind = LearningRate::Kind::poly;
  } else if (kind == "warmup_poly") {
    rate.kind = LearningRate::Kind::warmup_poly;
  } else {
    throw UsageError(
        text("train.schedule: found '", kind, "', expected constant, step, poly or warmup_poly"));
  }
  rate.base = config.number("train.lr", 0);
  rate.every = config.integer("train.lr_every", 1);
  rate.factor = config.number("train.lr_factor", 0);
  rate.power = config.number("train.lr_power", 0);
  rate.warmup = config.integer("train.lr_warmup", 0);
  rate.iterations = config.integer("train.iterations", 1);
  return rate;
}

MethodSetup method_setup(const RunConfig& config, const io::DatasetFolder& folder, Device device) {
  MethodSetup setup;
  setup.network.name = config.value("network.name");
  setup.network.filters = config.integer("network.filters", 1);
  setup.network.norm = config.value("network.norm");
  if (config.value("network.dropout") != "auto") setup.network.dropout = config.number("network.dropout", 0);
  setup.network.residual = config.flag("network.residual");
  setup.network.recompute = config.flag("train.recompute");
  setup.network.in_channels = static_cast<int64_t>(folder.channels.size());
  setup.network.classes = folder.classes();
  setup.precision = parse_precision(config.value("train.precision"));
  if (setup.precision == DType::f64 && device.is_cuda()) {
    throw UsageError("train.precision: f64 runs on the CPU only, expected --device cpu with it");
  }
  setup.device = device;
  setup.seed = static_cast<uint64_t>(config.integer("train.seed", 0));
  setup.iterations = config.integer("train.iterations", 1);
  setup.batch = config.integer("train.batch", 1);
  setup.learning_rate = learning_rate(config);
  setup.optimizer.name = config.value("train.optimizer");
  setup.optimizer.momentum = config.number("train.momentum", 0);
  setup.optimizer.weight_decay = config.number("train.weight_decay", 0);
  return setup;
}

WindowOptions window_options(const RunConfig& config, const DataOptions& data) {
  WindowOptions window;
  window.zoom_slices = data.zooms();
  window.patch = config.extent("train.patch");
  const bool automatic = config.value("window.stride") == "0";
  for (size_t axis = 0; axis < 3; ++axis) {
    window.stride[axis] =
        automatic ? std::max<int64_t>(1, window.patch[axis] / 4) : config.extent("window.stride")[axis];
  }
  const std::string& weighting = config.value("window.weighting");
  if (weighting != "uniform" && weighting != "gaussian") {
    throw UsageError(text("window.weighting: found '", weighting, "', expected uniform or gaussian"));
  }
  window.weighting =
      weighting == "gaussian" ? WindowOptions::Weighting::gaussian : WindowOptions::Weighting::uniform;
  window.batch = config.integer("window.batch", 1);
  return window;
}

nlohmann::json case_names(const io::DatasetFolder& folder, const std::vector<int64_t>& indices) {
  nlohmann::json names = nlohmann::json::array();
  for (const int64_t i : indices) names.push_back(folder.cases[static_cast<size_t>(i)].id);
  return names;
}

/// Settings that may differ between a run and its continuation: where things are and how they are reported.
bool may_change(const std::string& key) {
  return key == "data.folder" || key == "train.device" || key == "train.recompute" || key == "train.init" ||
         key == "train.report_every" || key == "train.checkpoint_every" || key == "train.dump_every" ||
         key.rfind("window.", 0) == 0;
}

Metadata run_metadata(const RunConfig& config, const std::map<std::string, std::string>& method_options,
                      const std::string& normalize, const nlohmann::json& split) {
  Metadata metadata;
  for (const Setting& s : config.settings()) {
    if (!may_change(s.key)) metadata["run." + s.key] = s.value;
  }
  for (const auto& [name, value] : method_options) metadata["run.method." + name] = value;
  metadata["run.split"] = split.dump();
  metadata["semivox.patch"] = config.value("train.patch");
  metadata["semivox.spacing"] = config.value("data.spacing");
  metadata["semivox.normalize"] = normalize;
  if (config.value("data.dims") == "2") {
    metadata["semivox.slice_axis"] = config.value("data.slice_axis");
    metadata["semivox.fit"] = config.value("data.fit");
  }
  return metadata;
}

/// The run folder while the run is being prepared: made when it is missing, and taken away again when nothing
/// was put into it.
class RunFolder {
 public:
  explicit RunFolder(const RunRequest& request) : path_(request.folder) {
    std::error_code error;
    made_ = fs::create_directories(path_, error);
    if (error) throw DataError(text(path_, ": cannot make the run folder: ", error.message()));
    { const AtomicFile probe(path_ + "/write-test"); }  // throws when nothing can be written here
    if (!request.resume && fs::exists(path_ + "/metrics.jsonl")) {
      throw UsageError(
          text(path_, ": holds a run already, expected another --out, or --resume to continue it"));
    }
  }
  ~RunFolder() {
    std::error_code not_empty;
    if (made_) fs::remove(path_, not_empty);
  }
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

 private:
  std::string path_;
  bool made_ = false;
};

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

/// Predicts every validation case on the grid of its file and scores it there.
Evaluation evaluate_final(Network& network, const RunConfig& config, const RunRequest& request,
                          const io::DatasetFolder& folder, const io::Split& split, const CachedData& data,
                          const WindowOptions& window) {
  EvaluationConventions conventions;
  conventions.largest_component = config.flag("window.largest_component");
  const std::string results = request.folder + "/results";
  fs::create_directories(results);
  std::vector<CaseResult> cases;
  for (size_t i = 0; i < split.validation.size(); ++i) {
    const io::CaseFiles& files = folder.cases[static_cast<size_t>(split.validation[i])];
    const io::CachedCase& cached = data.validation()[i];
    const Tensor host = predict_probabilities(network, io::whole_image(cached), window).to(Device{});
    io::LabelMap prediction;
    prediction.shape = cached.input_shape;
    prediction.geometry = cached.input_geometry;
    prediction.voxels = io::resample_argmax(probabilities_of_file(cached, host), host.shape().c,
                                            io::array_shape(cached), cached.input_shape);
    const io::LabelMap reference = io::read_case_label(files, folder.classes());
    cases.push_back(evaluate_case(files.id, prediction, reference, folder.classes(), conventions));
    if (request.save_predictions) {
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

void print_profile(Device device) {
  std::cout << profile_table();
  const MemoryStatistics memory = memory_statistics(device);
  std::cout << "peak memory " << format_bytes(memory.peak_total) << " (";
  for (int t = 0; t < kMemoryTags; ++t) {
    std::cout << (t ? ", " : "") << name_of(static_cast<MemoryTag>(t)) << " "
              << format_bytes(memory.peak[static_cast<size_t>(t)]);
  }
  std::cout << ")\n";
}

}  // namespace

RunOutcome execute_run(RunConfig config, const RunRequest& request) {
  if (config.value("data.dims") == "2") {
    config.set_default("train.patch", "256x256");
    config.set_default("data.augment", "rotflip_rotate");
  }
  config.choose_network_for(config.value("train.method"));
  const Device device = choose_device(config.value("train.device"));
  OptionReader reader(config.method_options());
  const MethodInfo& info = find_method(config.value("train.method"));
  const std::unique_ptr<Method> method = info.make(reader);
  reader.finish("method " + info.name);
  std::map<std::string, std::string> method_options;
  for (const OptionInfo& option : reader.options()) method_options[option.name] = option.value;

  const io::DatasetFolder folder = io::open_dataset(config.value("data.folder"));
  const MethodSetup setup = method_setup(config, folder, device);
  const std::vector<Phase> phases = method->phases(setup);
  const bool semi_supervised =
      std::any_of(phases.begin(), phases.end(), [](const Phase& p) { return p.unlabeled > 0; });
  const DataOptions data_settings = data_options(config, folder);
  const io::Split split = run_split(config, folder, data_settings, semi_supervised);
  const auto divisor = make_network(setup.network)->divisor();
  const auto patch = config.extent("train.patch");
  for (size_t axis = 0; axis < 3; ++axis) {
    if (patch[axis] % divisor[axis] != 0) {
      throw UsageError(text("train.patch: found ", config.value("train.patch"), ", expected multiples of ",
                            extent_text(divisor), " for network ", setup.network.name));
    }
  }
  const WindowOptions final_window = window_options(config, data_settings);
  const RunFolder run_folder(request);
  const std::string resolved = config.toml(method_options);
  const nlohmann::json split_json = {{"labeled", case_names(folder, split.labeled)},
                                     {"unlabeled", case_names(folder, split.unlabeled)},
                                     {"validation", case_names(folder, split.validation)}};
  const Metadata metadata =
      run_metadata(config, method_options, io::names_of(data_settings.preparation.normalization), split_json);
  const std::string state = request.folder + "/checkpoints/latest.safetensors";
  if (request.resume && fs::exists(state)) check_same_run(state, metadata);

  std::cout << "method " << info.name << " (" << info.paper << ")\n" << describe_device(device) << "\n";
  std::cout << io::describe(folder, split) << std::endl;
  const double before = now_seconds();
  CachedData data(data_settings, folder, split, device);
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%.1f s", now_seconds() - before);
  std::cout << "data: " << format_bytes(data.bytes()) << " cached in " << seconds << std::endl;
  if (data_settings.dims == 2) {
    std::cout << "slices: " << data.labeled_units() << " labelled, " << data.unlabeled_units()
              << " unlabelled" << std::endl;
  }

  method->build(setup);
  if (!config.value("train.init").empty()) {
    const SafetensorsFile weights = read_safetensors(config.value("train.init"));
    for (const auto& [name, network] : method->networks()) {
      if (network->options().name == setup.network.name)
        load_weights(*network, weights, config.value("train.init"));
    }
  }
  write_file(request.folder + "/config.toml", resolved);
  write_file(request.folder + "/split.json", split_json.dump(1) + "\n");
  write_file(request.folder + "/environment.json", environment_json(device).dump(1) + "\n");

  TrainerOptions options;
  options.folder = request.folder;
  options.validate_every = config.integer("train.validate_every", 0);
  options.checkpoint_every = config.integer("train.checkpoint_every", 1);
  options.dump_every = config.integer("train.dump_every", 0);
  options.report_every = config.integer("train.report_every", 1);
  options.resume = request.resume;
  options.metadata = metadata;
  options.window = final_window;
  for (size_t axis = 0; axis < 3; ++axis) options.window.stride[axis] = std::max<int64_t>(1, patch[axis] / 2);
  reset_peak_memory(device);
  if (request.profile) enable_profile(true);
  RunOutcome outcome;
  outcome.training = train(*method, setup, data, options);
  outcome.peak_memory = memory_statistics(device).peak_total;
  if (request.profile) print_profile(device);
  enable_profile(false);
  if (!split.validation.empty() && setup.precision != DType::f64) {
    outcome.evaluation =
        evaluate_final(method->student(), config, request, folder, split, data, final_window);
  }
  return outcome;
}

}  // namespace semivox
