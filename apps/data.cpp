// `semivox data synth|info|check|import-...`: makes the synthetic data sets, shows what a data set holds,
// looks for faults, and brings the field's files into data set folders.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "apps/commands.hpp"
#include "apps/data_import.hpp"
#include "apps/extent.hpp"
#include "engine/atomic_file.hpp"
#include "engine/error.hpp"
#include "io/case_reader.hpp"
#include "io/data_check.hpp"
#include "io/dataset.hpp"
#include "io/nifti.hpp"
#include "io/split.hpp"
#include "io/synth.hpp"
#include "io/synth_slices.hpp"

namespace semivox {
namespace {

struct SynthCommand {
  std::string out, size;  // size: default of the dimension when empty
  int64_t dims = 3, classes = 0, cases = 24;
  int64_t seed = 7;
  std::optional<double> spacing;  // default of the dimension
};

struct InspectCommand {
  std::string folder, json;
  bool ignore_geometry = false;
};

void run_synth(const SynthCommand& command) {
  const auto with_defaults = [&](auto options) {
    options.cases = command.cases;
    options.seed = static_cast<uint64_t>(command.seed);
    if (command.spacing) options.spacing = *command.spacing;
    if (command.size.empty()) return options;
    const auto size = parse_extent(command.size);
    if (!size) throw UsageError(text("--size: found '", command.size, "', expected voxels like 80x80x56"));
    options.size = *size;
    return options;
  };
  if (command.dims == 2) {
    auto options = with_defaults(io::SynthSlicesOptions{});
    if (command.classes != 0) options.classes = command.classes;
    io::write_synthetic_slices(command.out, options);
  } else {
    if (command.classes != 0 && command.classes != 2)
      throw UsageError(text("--classes ", command.classes, ": expected 2 with --dims 3"));
    io::write_synthetic_dataset(command.out, with_defaults(io::SynthOptions{}));
  }
  const io::DatasetFolder folder = io::open_dataset(command.out);
  std::cout << command.out << ": " << folder.cases.size() << " cases of "
            << io::shape_text(io::read_nifti_shape(folder.cases.front().images.front())) << " voxels, "
            << folder.classes() << " classes, " << folder.training.size() << " for training and "
            << folder.validation.size() << " for validation\n";
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
  CLI::App* data = app.add_subcommand("data", "Make, import, show or check a data set");
  data->require_subcommand(1);

  CLI::App* synth = data->add_subcommand(
      "synth", "Write a synthetic data set: left atria, or slices of hearts for 2D networks");
  const auto made = std::make_shared<SynthCommand>();
  synth->add_option("--out", made->out, "Folder to write, new or empty")->required();
  synth
      ->add_option("--dims", made->dims,
                   "3: volumes with an atrium; 2: stacks of slices with up to 4 classes")
      ->capture_default_str()
      ->check(CLI::IsMember({2, 3}));
  synth->add_option("--classes", made->classes,
                    "With background: 2 (--dims 3); 2, 3 or 4, the default (--dims 2)");
  synth->add_option("--cases", made->cases, "Number of cases; the last third is for validation")
      ->capture_default_str();
  synth->add_option("--size", made->size,
                    "Voxels along the three axes, 80x80x56; --dims 2: pixels x pixels x slices, 96x96x6");
  synth->add_option("--seed", made->seed, "Seed; the same seed gives the same files")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 62));
  synth->add_option("--spacing", made->spacing, "Millimetres per voxel, 1.25; --dims 2: per pixel, 1.5");
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

  add_import_commands(*data);
}

}  // namespace semivox
