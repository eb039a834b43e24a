#include "apps/training_options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <set>

#include "engine/error.hpp"

namespace semivox {

namespace {

/// The settings that have no option of their own, a line each, for the end of --help.
std::string describe_other_settings(const RunConfig& defaults, const std::set<std::string>& with_option) {
  std::string out = "Further settings, for --set and files:\n";
  for (const Setting& s : defaults.settings()) {
    if (with_option.contains(s.key)) continue;
    std::string line = "  " + s.key;
    line.resize(std::max<size_t>(line.size() + 1, 30), ' ');
    out += line + s.help + " [" + s.value + "]\n";
  }
  return out + "The options of each method: semivox methods";
}

}  // namespace

RunConfig TrainingOptions::resolve() const {
  RunConfig config;
  if (!config_file.empty()) config.read_file(config_file);
  for (const auto& [key, value] : given) config.set(key, value, "command line");
  for (const std::string& assignment : set) {
    const size_t equals = assignment.find('=');
    if (equals == std::string::npos || equals == 0) {
      throw UsageError(text("--set: found '", assignment, "', expected key=value"));
    }
    config.set(assignment.substr(0, equals), assignment.substr(equals + 1), "--set");
  }
  return config;
}

std::shared_ptr<TrainingOptions> add_training_options(CLI::App& command) {
  auto options = std::make_shared<TrainingOptions>();
  command
      .add_option("--config", options->config_file, "TOML file with settings; the command line overrides it")
      ->group("Settings");
  command
      .add_option("--set", options->set, "any setting or option of the method, key=value; may be repeated")
      ->group("Settings");
  static constexpr struct {
    const char *flag, *key, *group;
  } list[] = {
      {"--data", "data.folder", "Data"},
      {"--labeled", "data.labeled", "Data"},
      {"--unlabeled", "data.unlabeled", "Data"},
      {"--labeled-unit", "data.labeled_unit", "Data"},
      {"--dims", "data.dims", "Data"},
      {"--fit", "data.fit", "Data"},
      {"--spacing", "data.spacing", "Data"},
      {"--normalize", "data.normalize", "Data"},
      {"--augment", "data.augment", "Data"},
      {"--order", "data.order", "Data"},
      {"--network", "network.name", "Network"},
      {"--filters", "network.filters", "Network"},
      {"--norm", "network.norm", "Network"},
      {"--iterations", "train.iterations", "Training"},
      {"--batch", "train.batch", "Training"},
      {"--patch", "train.patch", "Training"},
      {"--lr", "train.lr", "Training"},
      {"--schedule", "train.schedule", "Training"},
      {"--optimizer", "train.optimizer", "Training"},
      {"--precision", "train.precision", "Training"},
      {"--device", "train.device", "Training"},
      {"--graph", "train.graph", "Training"},
      {"--seed", "train.seed", "Training"},
      {"--init", "train.init", "Training"},
      {"--validate-every", "train.validate_every", "Training"},
      {"--checkpoint-every", "train.checkpoint_every", "Training"},
      {"--dump-every", "train.dump_every", "Training"},
      {"--report-every", "train.report_every", "Training"},
      {"--stride", "window.stride", "Evaluation"},
  };
  const RunConfig defaults;
  std::set<std::string> with_option{"train.method", "train.recompute"};
  for (const auto& entry : list) {
    with_option.insert(entry.key);
    std::string help, value;
    for (const Setting& s : defaults.settings()) {
      if (s.key == entry.key) {
        help = s.help;
        value = s.value;
      }
    }
    if (!value.empty()) help += text(" [", value, "]");
    const std::string key = entry.key;
    command
        .add_option_function<std::string>(
            entry.flag, [options, key](const std::string& typed) { options->given.emplace_back(key, typed); },
            help)
        ->group(entry.group);
  }
  command
      .add_flag_callback(
          "--recompute", [options] { options->given.emplace_back("train.recompute", "true"); },
          "Compute cheap convolutions again in backward: less memory, the same bits")
      ->group("Training");
  command.footer(describe_other_settings(defaults, with_option));
  return options;
}

}  // namespace semivox
