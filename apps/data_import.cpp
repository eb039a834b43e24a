#include "apps/data_import.hpp"

#include <CLI/CLI.hpp>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>

#include "engine/error.hpp"
#include "io/dataset.hpp"
#include "io/import.hpp"
#include "io/import_prepared.hpp"

namespace semivox {
namespace {

void report(const std::string& out) {
  const io::DatasetFolder folder = io::open_dataset(out);
  std::cout << out << ": " << folder.cases.size() << " cases, " << folder.training.size() << " for training, "
            << folder.validation.size() << " for validation, " << folder.test.size() << " for test, "
            << folder.classes() << " classes\n";
}

/// --from, --out and, with `lists`, the list files.
void add_common(CLI::App* app, io::ImportOptions& options, const std::string& from, bool lists) {
  app->add_option("--from", options.from, from)->required();
  app->add_option("--out", options.out, "Folder to write, new or empty")->required();
  app->add_flag("--allow-missing", options.allow_missing,
                "Leave out cases that a list names and --from lacks");
  if (!lists) return;
  app->add_option("--train", options.train, "List of the training cases, in order, one per line");
  app->add_option("--validation", options.validation, "List of the validation cases");
  app->add_option("--test", options.test, "List of the test cases");
}

/// A comma between two names.
std::vector<std::string> split_names(const std::string& words) {
  std::vector<std::string> names;
  std::istringstream in(words);
  for (std::string name; std::getline(in, name, ',');) names.push_back(name);
  return names;
}

void add_hdf5(CLI::App& data) {
  CLI::App* app = data.add_subcommand(
      "import-h5",
      "Cases in HDF5 files (image, label) with the field's lists, as a data set folder of NIfTI files");
  struct Command {
    io::ImportHdf5Options options;
    std::string labels, axes = "xyz";
  };
  const auto command = std::make_shared<Command>();
  add_common(app, command->options, "Folder of CASE.h5 or CASE/mri_norm2.h5", true);
  app->add_option("--labels", command->labels, "Names of the classes, background first: background,tumour")
      ->required();
  app->add_option("--axes", command->axes,
                  "Order of the files' axes: xyz, or zyx, which SimpleITK writes (slices first)")
      ->capture_default_str()
      ->check(CLI::IsMember({"xyz", "zyx"}));
  app->add_option("--name", command->options.name, "Name of the data set")->capture_default_str();
  app->add_option("--spacing", command->options.spacing, "Millimetres per voxel along x and y")
      ->capture_default_str()
      ->check(CLI::Range(1e-3, 1e3));
  app->add_option("--slice-spacing", command->options.slice_spacing, "Millimetres per voxel along z")
      ->capture_default_str()
      ->check(CLI::Range(1e-3, 1e3));
  app->callback([command] {
    command->options.class_names = split_names(command->labels);
    std::set<std::string> distinct(command->options.class_names.begin(), command->options.class_names.end());
    if (distinct.size() < 2 || distinct.size() != command->options.class_names.size() ||
        distinct.contains("")) {
      throw UsageError(text("--labels: found '", command->labels,
                            "', expected background and at least one class, each with a name of its own"));
    }
    command->options.reversed_axes = command->axes == "zyx";
    io::import_hdf5(command->options);
    report(command->options.out);
  });
}

}  // namespace

void add_import_commands(CLI::App& data) {
  add_hdf5(data);

  CLI::App* la =
      data.add_subcommand("import-la", "The left-atrium files of UA-MT: CASE/mri_norm2.h5 and its lists");
  const auto la_options = std::make_shared<io::ImportOptions>();
  add_common(la, *la_options, "Folder with the cases, or one above; train.list and test.list in it are used",
             true);
  la->callback([la_options] {
    io::import_la(*la_options);
    report(la_options->out);
  });

  CLI::App* acdc = data.add_subcommand(
      "import-acdc", "ACDC: the challenge's NIfTI folders or SSL4MIS' HDF5 volumes, with the field's split");
  const auto acdc_options = std::make_shared<io::ImportOptions>();
  add_common(acdc, *acdc_options, "Folder with patientPPP or patientPPP_frameFF.h5, or the one above", false);
  acdc->callback([acdc_options] {
    io::import_acdc(*acdc_options);
    report(acdc_options->out);
  });

  CLI::App* pancreas = data.add_subcommand(
      "import-pancreas",
      "Pancreas-CT as NIfTI files: window, resample and crop as one of the field's pipelines");
  struct Pancreas {
    io::ImportOptions options;
    std::string labels, pipeline = "mc_net";
  };
  const auto pancreas_command = std::make_shared<Pancreas>();
  add_common(pancreas, pancreas_command->options, "Folder of CT scans, NIfTI, four digits in each name",
             false);
  pancreas->add_option("--labels", pancreas_command->labels, "Folder of their labels, NIfTI, the same digits")
      ->required();
  pancreas
      ->add_option("--pipeline", pancreas_command->pipeline,
                   "mc_net (MC-Net, DTC, CVBM: z-score, whole height), coranet (CoraNet, BCP: 0...1) or rcps "
                   "(0...1)")
      ->capture_default_str()
      ->check(CLI::IsMember({"mc_net", "coranet", "rcps"}));
  pancreas->callback([pancreas_command] {
    const auto& c = *pancreas_command;
    const std::map<std::string, io::PancreasPipeline> pipelines{{"mc_net", io::PancreasPipeline::mc_net},
                                                                {"coranet", io::PancreasPipeline::coranet},
                                                                {"rcps", io::PancreasPipeline::rcps}};
    io::import_pancreas(c.options, c.labels, pipelines.at(c.pipeline));
    report(c.options.out);
  });

  CLI::App* brats = data.add_subcommand(
      "import-brats", "BraTS-2019, whole tumour from FLAIR: cropped and normalised as SSL4MIS does");
  const auto brats_options = std::make_shared<io::ImportOptions>();
  add_common(brats, *brats_options, "Folder with CASE/CASE_flair.nii.gz and CASE_seg.nii.gz, at any depth",
             true);
  brats->callback([brats_options] {
    io::import_brats(*brats_options);
    report(brats_options->out);
  });

  CLI::App* isles =
      data.add_subcommand("import-isles", "ISLES-2022, lesions from DWI, with one of DyCON's splits");
  struct Isles {
    io::ImportOptions options;
    int fold = 0;
  };
  const auto isles_command = std::make_shared<Isles>();
  add_common(isles, isles_command->options, "The released folder (BIDS: sub-strokecaseNNNN and derivatives)",
             false);
  isles->add_option("--fold", isles_command->fold, "Split 0, 1 or 2")
      ->capture_default_str()
      ->check(CLI::Range(0, 2));
  isles->callback([isles_command] {
    io::import_isles(isles_command->options, isles_command->fold);
    report(isles_command->options.out);
  });
}

}  // namespace semivox
