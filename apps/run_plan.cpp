#include "apps/run_plan.hpp"

#include <algorithm>

#include "apps/commands.hpp"
#include "apps/extent.hpp"

namespace semivox {

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
  return key == "data.folder" || key == "train.device" || key == "train.recompute" || key == "train.graph" ||
         key == "train.init" || key == "train.report_every" || key == "train.checkpoint_every" ||
         key == "train.dump_every" || key.rfind("window.", 0) == 0;
}

Metadata run_metadata(const RunConfig& config, const std::map<std::string, std::string>& method_options,
                      const std::string& normalize, const nlohmann::json& split,
                      const NetworkOptions& network) {
  Metadata metadata;
  metadata["run.classes"] = text(network.classes);
  metadata["run.channels"] = text(network.in_channels);
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

void check_patch(const RunConfig& config, const std::array<int64_t, 3>& divisor, const std::string& network) {
  const auto patch = config.extent("train.patch");
  for (size_t axis = 0; axis < 3; ++axis) {
    if (patch[axis] % divisor[axis] == 0) continue;
    throw UsageError(text("train.patch: found ", config.value("train.patch"), ", expected multiples of ",
                          extent_text(divisor), " for network ", network));
  }
}

}  // namespace

RunPlan plan_run(RunConfig config) {
  if (config.value("data.dims") == "2") {
    config.set_default("train.patch", "256x256");
    config.set_default("data.augment", "rotflip_rotate");
  }
  config.choose_network_for(config.value("train.method"));
  const Device device = choose_device(config.value("train.device"));
  RunPlan plan;
  plan.info = &find_method(config.value("train.method"));
  OptionReader reader(config.method_options(), config.method_origins());
  plan.method = plan.info->make(reader);
  reader.finish("method " + plan.info->name);
  for (const OptionInfo& option : reader.options()) plan.method_options[option.name] = option.value;

  plan.folder = io::open_dataset(config.value("data.folder"));
  plan.setup = method_setup(config, plan.folder, device);
  const std::vector<Phase> phases = plan.method->phases(plan.setup);
  const bool semi_supervised =
      std::any_of(phases.begin(), phases.end(), [](const Phase& p) { return p.unlabeled > 0; });
  plan.data = data_options(config, plan.folder);
  plan.split = run_split(config, plan.folder, plan.data, semi_supervised);
  if (semi_supervised && plan.split.unlabeled.empty()) {
    throw UsageError(text(plan.info->name, ": found no unlabelled case beside the ",
                          plan.split.labeled.size(),
                          " labelled ones, expected some (--labeled, --unlabeled)"));
  }
  const auto divisor = make_network(plan.setup.network)->divisor();
  check_patch(config, divisor, plan.setup.network.name);
  plan.window = window_options(config, plan.data);
  if (!plan.window.zoom_slices) check_windows(plan.window, divisor);
  plan.largest_component = config.flag("window.largest_component");
  plan.split_by_name = {{"labeled", case_names(plan.folder, plan.split.labeled)},
                        {"unlabeled", case_names(plan.folder, plan.split.unlabeled)},
                        {"validation", case_names(plan.folder, plan.split.validation)}};
  plan.metadata = run_metadata(config, plan.method_options, io::names_of(plan.data.preparation.normalization),
                               plan.split_by_name, plan.setup.network);
  plan.config = std::move(config);
  return plan;
}

}  // namespace semivox
