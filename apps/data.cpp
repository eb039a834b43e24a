// `semivox data synth|info|check`: makes the synthetic data set, shows what a data set holds, and looks for
// faults.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <string>

#include "apps/commands.hpp"
#include "apps/extent.hpp"
#include "engine/atomic_file.hpp"
#include "engine/error.hpp"
#include "io/data_check.hpp"
#include "io/dataset.hpp"
#include "io/synth.hpp"

namespace semivox {
namespace {

struct SynthCommand {
  std::string out, size = "80x80x56";
  io::SynthOptions options;
};

struct InspectCommand {
  std::string folder, json;
  bool ignore_geometry = false;
};

void run_synth(SynthCommand command) {
  const auto size = parse_extent(command.size);
  if (!size) throw UsageError(text("--size: found '", command.size, "', expected voxels like 80x80x56"));
  command.options.size = *size;
  io::write_synthetic_dataset(command.out, command.options);
  const io::DatasetFolder folder = io::open_dataset(command.out);
  std::cout << command.out << ": " << folder.cases.size() << " cases of " << command.size << " voxels, "
            << folder.training.size() << " for training and " << folder.validation.size()
            << " for validation\n";
}

std::vector<io::CaseReport> inspect(const InspectCommand& command, const io::DatasetFolder& folder) {
  const auto geometry = command.ignore_geometry ? io::GeometryCheck::ignore : io::GeometryCheck::compare;
  const std::vector<io::CaseReport> reports = io::inspect_dataset(folder, geometry);
  if (!command.json.empty()) write_file(command.json, io::reports_json(reports));
  return reports;
}

/// Prints the problems of all cases; returns how many there are.
int64_t print_problems(const std::vector<io::CaseReport>& reports) {
  int64_t count = 0;
  for (const io::CaseReport& report : reports) {
    for (const std::string& problem : report.problems) std::cout << report.id << ": " << problem << "\n";
    count += static_cast<int64_t>(report.problems.size());
  }
  return count;
}

void run_info(const InspectCommand& command) {
  const io::DatasetFolder folder = io::open_dataset(command.folder);
  const auto reports = inspect(command, folder);
  std::cout << io::describe(folder, io::make_split(folder, io::kAllCases)) << "\nclasses:";
  for (int c = 0; c < folder.classes(); ++c) std::cout << " " << c << " " << folder.class_names[c];
  std::cout << "\n\n" << io::format_reports(reports);
  print_problems(reports);
}

void run_check(const InspectCommand& command) {
  const io::DatasetFolder folder = io::open_dataset(command.folder);
  const auto reports = inspect(command, folder);
  const int64_t problems = print_problems(reports);
  if (problems > 0) {
    throw DataError(
        text(command.folder, ": ", problems, " problems in ", reports.size(), " cases, listed above"));
  }
  std::cout << command.folder << ": " << reports.size() << " cases, no problems\n";
}

void add_inspect_options(CLI::App* app, const std::shared_ptr<InspectCommand>& command) {
  app->add_option("folder,--data", command->folder, "Data set folder")->required();
  app->add_option("--json", command->json, "Write the table to this JSON file, too");
  app->add_flag("--ignore-geometry", command->ignore_geometry,
                "Accept labels whose header has another spacing or position than the image's");
}

}  // namespace

void add_data_command(CLI::App& app) {
  CLI::App* data = app.add_subcommand("data", "Make, show or check a data set");
  data->require_subcommand(1);

  CLI::App* synth = data->add_subcommand("synth", "Write a synthetic left-atrium data set");
  const auto made = std::make_shared<SynthCommand>();
  synth->add_option("--out", made->out, "Folder to write, new or empty")->required();
  synth->add_option("--cases", made->options.cases, "Number of cases; the last third is for validation")
      ->capture_default_str();
  synth->add_option("--size", made->size, "Voxels along the three axes")->capture_default_str();
  synth->add_option("--seed", made->options.seed, "Seed; the same seed gives the same files")
      ->capture_default_str();
  synth->add_option("--spacing", made->options.spacing, "Millimetres per voxel")->capture_default_str();
  synth->callback([made] { run_synth(*made); });

  CLI::App* info = data->add_subcommand("info", "One line per case: grid, intensities, label");
  const auto shown = std::make_shared<InspectCommand>();
  add_inspect_options(info, shown);
  info->callback([shown] { run_info(*shown); });

  CLI::App* check =
      data->add_subcommand("check", "Decode every file, list all problems; exit code 3 if there are any");
  const auto checked = std::make_shared<InspectCommand>();
  add_inspect_options(check, checked);
  check->callback([checked] { run_check(*checked); });
}

}  // namespace semivox
