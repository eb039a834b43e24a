#include "apps/evaluate.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "apps/commands.hpp"
#include "apps/input_cases.hpp"
#include "apps/results.hpp"
#include "engine/error.hpp"
#include "io/case_reader.hpp"

namespace semivox {
namespace {

constexpr int kMostClasses = 256;  // labels are 8-bit
constexpr const char* kPicture = ".png";

/// CASE of CASE.nii.gz, CASE.nii or CASE.png; nothing for other files and for the probability maps
/// CASE_prob<n>.
std::optional<std::string> case_of(const std::string& file) {
  for (const std::string ending : {".nii.gz", ".nii", kPicture}) {
    if (!file.ends_with(ending) || file.front() == '.') continue;
    const std::string name = file.substr(0, file.size() - ending.size());
    const size_t number = name.find_last_not_of("0123456789") + 1;
    const bool is_probability = number < name.size() && name.substr(0, number).ends_with("_prob");
    return is_probability ? std::nullopt : std::optional(name);
  }
  return std::nullopt;
}

/// The label files of a folder by case name, without the probability maps and overlays that `predict` puts
/// beside its labels: pictures count where there is nothing else.
std::map<std::string, std::string> label_files(const std::string& folder, const char* role) {
  namespace fs = std::filesystem;
  if (!fs::is_directory(folder)) {
    throw DataError(text(folder, fs::exists(folder) ? ": is no folder" : ": not found", ", expected the ",
                         role, " folder"));
  }
  std::map<std::string, std::string> files;
  std::vector<fs::path> paths;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (case_of(entry.path().filename().string())) paths.push_back(entry.path());
  }
  const auto is_picture = [](const fs::path& path) { return path.extension() == kPicture; };
  if (!std::all_of(paths.begin(), paths.end(), is_picture)) std::erase_if(paths, is_picture);
  for (const fs::path& path : paths) {
    const std::optional<std::string> name = case_of(path.filename().string());
    const auto [position, is_new] = files.emplace(*name, path.string());
    if (!is_new) throw DataError(text(position->second, " and ", path.string(), ": two files of one case"));
  }
  if (files.empty())
    throw DataError(text(folder, ": no .nii.gz, .nii or .png file in the ", role, " folder"));
  return files;
}

/// The label files of a data set folder's cases.
std::map<std::string, std::string> dataset_labels(const std::string& folder, const std::string& list) {
  std::map<std::string, std::string> files;
  for (const io::CaseFiles& one : listed_cases(io::open_dataset(folder), list)) {
    if (!one.label.empty()) files.emplace(one.id, one.label);
  }
  if (files.empty()) throw DataError(text(folder, ": none of the cases has a label"));
  return files;
}

struct CasePair {
  std::string name, prediction, reference;
};

std::vector<CasePair> match_cases(const EvaluateOptions& options) {
  const auto predictions = label_files(options.prediction, "prediction");
  const bool from_dataset = is_dataset(options.reference);
  if (!from_dataset && options.list != "all")
    throw UsageError(text("--list: ", options.reference, " is no data set folder (it has no dataset.json)"));
  const auto references = from_dataset ? dataset_labels(options.reference, options.list)
                                       : label_files(options.reference, "reference");
  std::vector<CasePair> pairs;
  for (const auto& [name, prediction] : predictions) {
    const auto reference = references.find(name);
    if (reference == references.end()) {
      throw DataError(text(prediction, ": no reference of case ", name, " in ", options.reference));
    }
    pairs.push_back({name, prediction, reference->second});
  }
  for (const auto& [name, reference] : references) {
    if (!options.subset && !predictions.contains(name)) {
      throw DataError(text(reference, ": no prediction of case ", name, " in ", options.prediction,
                           " (--subset scores the cases that have one)"));
    }
  }
  return pairs;
}

std::string extent(const io::Extent3& shape) { return text(shape[0], " x ", shape[1], " x ", shape[2]); }

/// One more than the largest label of the references: a pass over the files before the scoring, which needs
/// it. A label below it that no reference has would be scored as if it were right everywhere, so it is
/// refused.
int count_classes(const std::vector<CasePair>& pairs) {
  std::array<bool, kMostClasses> found{};
  for (const CasePair& pair : pairs) {
    const io::LabelMap reference = io::read_label_file(pair.reference, kMostClasses);
    for (const uint8_t label : reference.voxels) found[label] = true;
  }
  int largest = kMostClasses - 1;
  while (largest > 1 && !found[static_cast<size_t>(largest)]) --largest;
  for (int label = 1; label < largest; ++label) {
    if (found[static_cast<size_t>(label)]) continue;
    throw DataError(text("references: found label ", largest, " but nowhere ", label,
                         ", expected 0, 1, 2, ... without gaps, or --classes"));
  }
  return largest + 1;
}

}  // namespace

Evaluation run_evaluate(const EvaluateOptions& options) {
  const std::vector<CasePair> pairs = match_cases(options);
  int classes = options.classes;
  if (classes == 0 && is_dataset(options.reference)) classes = io::open_dataset(options.reference).classes();
  if (classes == 0) classes = count_classes(pairs);
  std::vector<CaseResult> cases;
  for (const CasePair& pair : pairs) {
    const io::LabelMap prediction = io::read_label_file(pair.prediction, classes);
    const io::LabelMap reference = io::read_label_file(pair.reference, classes);
    if (prediction.shape != reference.shape) {
      throw DataError(text(pair.prediction, ": shape ", extent(prediction.shape), ", but the reference ",
                           pair.reference, " is ", extent(reference.shape)));
    }
    if (options.conventions.units == Units::millimetre && !reference.geometry.known) {
      throw DataError(
          text(pair.reference, ": does not say how large a voxel is, expected NIfTI with --units mm"));
    }
    cases.push_back(evaluate_case(pair.name, prediction, reference, classes, options.conventions));
  }
  Evaluation evaluation = summarize(options.conventions, std::move(cases));
  if (!options.json.empty()) write_results_json(options.json, evaluation);
  if (!options.csv.empty()) write_results_csv(options.csv, evaluation);
  return evaluation;
}

void add_evaluate_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("evaluate", "Dice, Jaccard, 95HD and ASD of predictions");
  const auto options = std::make_shared<EvaluateOptions>();
  command
      ->add_option("--prediction", options->prediction,
                   "Folder of predicted label maps, CASE.nii.gz, .nii or .png")
      ->required();
  command
      ->add_option("--reference", options->reference,
                   "Folder of reference label maps, CASE.nii.gz, .nii or .png, or data set folder")
      ->required();
  command
      ->add_option(
          "--list", options->list,
          "Of a data set folder: all cases (default), or those under validation or test in splits.json")
      ->check(CLI::IsMember(case_lists()));
  command
      ->add_option_function<std::string>(
          "--units",
          [options](const std::string& word) {
            options->conventions.units = word == "mm" ? Units::millimetre : Units::voxel;
          },
          "Units of the distances (default: voxel)")
      ->check(CLI::IsMember({"voxel", "mm"}));
  command
      ->add_option_function<std::string>(
          "--empty",
          [options](const std::string& word) {
            options->conventions.empty = word == "nan"        ? EmptyPolicy::nan
                                         : word == "diagonal" ? EmptyPolicy::diagonal
                                                              : EmptyPolicy::zero;
          },
          "Distances where prediction or reference is empty (default: zero, as in the papers)")
      ->check(CLI::IsMember({"zero", "nan", "diagonal"}));
  command->add_flag("--largest-component", options->conventions.largest_component,
                    "Score the largest 26-connected component of each predicted class");
  command
      ->add_option("--classes", options->classes,
                   "Number of classes with background (default: the data set's, or the largest label of the "
                   "references)")
      ->check(CLI::Range(2, kMostClasses));
  command->add_flag("--subset", options->subset, "Leave references without a prediction out");
  command->add_option("--json", options->json, "Write the results to this JSON file");
  command->add_option("--csv", options->csv, "Write the results to this CSV file");
  command->callback([options] { std::cout << format_table(run_evaluate(*options)); });
}

}  // namespace semivox
