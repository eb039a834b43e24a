// `semivox predict`: label maps and probabilities of scans, by a trained run or a weights file.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "apps/commands.hpp"
#include "apps/extent.hpp"
#include "apps/input_cases.hpp"
#include "apps/model_file.hpp"
#include "engine/atomic_file.hpp"
#include "engine/error.hpp"
#include "engine/profile.hpp"
#include "engine/stop_signals.hpp"
#include "io/nifti.hpp"
#include "io/overlay.hpp"
#include "io/resample.hpp"
#include "methods/sliding_window.hpp"

namespace semivox {
namespace {

namespace fs = std::filesystem;
using Axes = std::array<int64_t, 3>;

struct PredictOptions {
  std::string run, checkpoint = "final", weights;
  std::string input, list = "all", output, device = "auto";
  std::map<std::string, std::string> settings;  // see load_model
  DType precision = DType::f32;
  WindowOptions windows{.patch = {0, 0, 0}, .stride = {0, 0, 0}};
  int neighbours = 0;
  bool probabilities = false, overlay = false, skip_finished = false;
};

std::string output_path(const PredictOptions& options, const std::string& file) {
  return (fs::path(options.output) / file).string();
}

/// True for the folders of a data set that hold its images and labels.
bool is_part_of_dataset(const std::string& folder) {
  std::error_code unknown;
  fs::path path = fs::weakly_canonical(folder, unknown);
  if (!path.has_filename()) path = path.parent_path();
  const std::string name = path.filename().string();
  return (name == "imagesTr" || name == "labelsTr") && is_dataset(path.parent_path().string());
}

/// Fails before the work instead of after it, and never writes over a scan or a reference.
void prepare_output(const PredictOptions& options, const std::vector<InputCase>& cases, int64_t classes) {
  if (options.output.empty()) throw UsageError("--output: found '', expected a folder");
  if (is_part_of_dataset(options.output)) {
    throw UsageError(
        text("--output: ", options.output, " holds files of a data set, expected another folder"));
  }
  std::error_code error;
  fs::create_directories(options.output, error);
  if (error) throw DataError(text(options.output, ": cannot make the output folder: ", error.message()));
  const AtomicFile probe(
      output_path(options, "write-test"));  // throws when it cannot be made, leaves nothing
  std::vector<std::string> targets;
  for (const InputCase& one : cases) {
    targets.push_back(output_path(options, one.name + ".nii.gz"));
    if (options.overlay) targets.push_back(output_path(options, one.name + ".png"));
    for (int64_t k = 1; options.probabilities && k < classes; ++k)
      targets.push_back(output_path(options, text(one.name, "_prob", k, ".nii.gz")));
  }
  std::set<std::string> seen;
  for (const std::string& target : targets) {
    if (!seen.insert(target).second)
      throw UsageError(text("--output: two cases would be written to ", target));
    if (!fs::exists(target)) continue;
    for (const InputCase& one : cases) {
      for (const std::string& file : one.files) {
        if (fs::equivalent(target, file))
          throw UsageError(text("--output: ", target, " is an input, expected another folder"));
      }
    }
  }
}

/// A case on the way through the network.
struct Scan {
  io::Image original;  ///< first channel as the file has it: the grid that results are written on
  io::Extent3 array;   ///< shape of the prepared grid in the array order of the file
  int slice_axis = -1;
  io::Extent3 shape;  ///< of the prepared grid, slices first
  Tensor image;       ///< (1, C, D, H, W), prepared, on the device
};

Scan read_scan(const InputCase& one, const io::Preparation& preparation, int64_t channels, Device device) {
  Scan scan;
  const io::CaseFiles files{one.name, one.files, ""};
  std::vector<io::Image> images = io::read_case_channels(files);
  if (static_cast<int64_t>(images.size()) != channels) {
    throw DataError(
        text(one.files.front(), ": ", images.size(), " channels, expected ", channels, " (the network's)"));
  }
  scan.original = images.front();
  images = io::prepare_channels(std::move(images), preparation, files);
  scan.array = images.front().shape;
  scan.slice_axis = io::slice_axis_of(preparation.slice_axis, one.files.front(), scan.array);
  scan.shape = io::slices_first(scan.array, scan.slice_axis);
  const std::vector<float> voxels = io::interleave(images);
  const std::vector<std::byte> bytes = io::slices_first(voxels.data(), scan.array, scan.slice_axis,
                                                        channels * static_cast<int64_t>(sizeof(float)));
  const Tensor host = Tensor::empty({1, channels, scan.shape[0], scan.shape[1], scan.shape[2]}, DType::f32,
                                    Device{}, MemoryTag::data);
  std::memcpy(host.raw(), bytes.data(), bytes.size());
  scan.image = host.to(device);
  return scan;
}

std::vector<float> to_host(const Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  copy_bytes(values.data(), Device{}, tensor.raw(), tensor.device(), values.size() * sizeof(float));
  return values;
}

/// The probabilities on the grid of the input file.
Tensor on_input_grid(const Tensor& probabilities, const Scan& scan) {
  const io::Extent3& to = scan.original.shape;
  if (to == scan.array && scan.slice_axis <= 0) return probabilities;
  const int64_t classes = probabilities.shape().c;
  std::vector<float> values = to_host(probabilities);
  if (scan.slice_axis > 0) {
    const std::vector<std::byte> bytes = io::array_order(values.data(), scan.array, scan.slice_axis,
                                                         classes * static_cast<int64_t>(sizeof(float)));
    std::memcpy(values.data(), bytes.data(), bytes.size());
  }
  values = io::resample_linear(values, classes, scan.array, to);
  const Tensor resampled =
      Tensor::empty({1, classes, to[0], to[1], to[2]}, DType::f32, probabilities.device());
  copy_bytes(resampled.raw(), resampled.device(), values.data(), Device{}, values.size() * sizeof(float));
  return resampled;
}

/// One map per class but the background.
void write_probabilities(const PredictOptions& options, const std::string& name, const io::Image& grid,
                         const Tensor& probabilities) {
  const int64_t classes = probabilities.shape().c;
  const std::vector<float> values = to_host(probabilities);
  io::Image map{grid.shape, std::vector<float>(grid.voxels.size()), grid.geometry};
  for (int64_t k = 1; k < classes; ++k) {
    for (size_t i = 0; i < map.voxels.size(); ++i) map.voxels[i] = values[i * classes + k];
    io::write_nifti_image(output_path(options, text(name, "_prob", k, ".nii.gz")), map);
  }
}

/// Predicts one case and writes its files, the label map last: where it is, the case is finished.
/// Returns the words for the progress line.
std::string predict_case(const PredictOptions& options, const WindowOptions& windows, Model& model,
                         const InputCase& one) {
  const double start = now_seconds();
  const Device device = model.network->device();
  const Scan scan = read_scan(one, model.preparation, model.network->options().in_channels, device);
  const Tensor probabilities =
      on_input_grid(predict_probabilities(*model.network, scan.image, windows), scan);
  const Tensor labels = argmax_labels(probabilities, options.neighbours);

  io::LabelMap result{scan.original.shape, std::vector<uint8_t>(static_cast<size_t>(labels.elements())),
                      scan.original.geometry};
  copy_bytes(result.voxels.data(), Device{}, labels.raw(), device, result.voxels.size());
  if (options.probabilities) write_probabilities(options, one.name, scan.original, probabilities);
  if (options.overlay) {
    io::write_overlay(output_path(options, one.name + ".png"), scan.original, result, nullptr, one.name);
  }
  io::write_nifti_labels(output_path(options, one.name + ".nii.gz"), result);

  const auto foreground = result.voxels.size() - std::count(result.voxels.begin(), result.voxels.end(), 0);
  char numbers[96];
  std::snprintf(numbers, sizeof numbers, "foreground %.2f %%, %.1f s",
                100.0 * static_cast<double>(foreground) / static_cast<double>(result.voxels.size()),
                now_seconds() - start);
  const bool resampled = scan.array != scan.original.shape;
  return text(extent_text(scan.original.shape), resampled ? " as " + extent_text(scan.array) : "", ", ",
              window_count(*model.network, scan.shape, windows), " windows, ", numbers);
}

/// Fills in what the command line left open from the model.
WindowOptions resolve_windows(const PredictOptions& options, const Model& model) {
  WindowOptions windows = options.windows;
  if (windows.whole_volume) return windows;
  windows.patch = model.patch;
  windows.zoom_slices = model.zoom_slices;
  if (windows.patch[0] == 0) {
    throw UsageError(
        "--patch: expected DxHxW (the weights do not say what they were trained with) or --whole-volume");
  }
  if (windows.stride[0] == 0) {
    for (int a = 0; a < 3; ++a)
      windows.stride[a] = std::max<int64_t>(1, windows.patch[a] / 4);  // as after training
  }
  window_count(*model.network, windows.patch, windows);  // refuses what cannot work before anything is read
  return windows;
}

void run_predict(const PredictOptions& options) {
  const Device device = choose_device(options.device);
  const ModelFile file = options.run.empty() ? ModelFile{options.weights, ""}
                                             : model_file_of_run(options.run, options.checkpoint);
  Model model = load_model(file, options.settings, options.precision, device);
  const WindowOptions windows = resolve_windows(options, model);
  const NetworkOptions& network = model.network->options();
  const std::vector<InputCase> cases = list_input_cases(options.input, network.in_channels, options.list);
  prepare_output(options, cases, network.classes);

  std::cout << file.path << ": " << network.name << ", " << network.filters << " filters, " << network.classes
            << " classes, on " << device.name() << '\n';
  const double start = now_seconds();
  size_t number = 0, skipped = 0;
  const StopSignals signals;
  for (const InputCase& one : cases) {
    if (StopSignals::stop_requested()) {
      throw Interrupted(text("stopped after ", number, " of ", cases.size(), " scans; in ", options.output,
                             "; --continue leaves out what is finished"));
    }
    std::cout << '[' << ++number << '/' << cases.size() << "] " << one.name << "  " << std::flush;
    if (options.skip_finished && fs::exists(output_path(options, one.name + ".nii.gz"))) {
      ++skipped;
      std::cout << "is finished" << std::endl;
      continue;
    }
    try {
      std::cout << predict_case(options, windows, model, one) << std::endl;
    } catch (...) {
      std::cout << std::endl;  // the message gets a line of its own
      throw;
    }
  }
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%.1f s", now_seconds() - start);
  std::cout << cases.size() - skipped << " predicted, " << skipped << " skipped, " << seconds << ", in "
            << options.output << '\n';
}

/// An option that stands in for a field of the weights' metadata.
CLI::Option* add_setting(CLI::App& command, PredictOptions& options, const std::string& flag,
                         const std::string& field, const std::string& help) {
  return command.add_option_function<std::string>(
      flag, [&options, field](const std::string& word) { options.settings[field] = word; }, help);
}

/// A check that `parse` accepts the word.
template <class Parse>
CLI::Validator accepted_by(const Parse& parse, const std::string& expected) {
  return CLI::Validator(
      [parse, expected](std::string& word) {
        return parse(word) ? std::string() : text("found '", word, "', expected ", expected);
      },
      expected);
}

}  // namespace

void add_predict_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("predict", "Label maps of scans, by a trained run or a weights file");
  const auto options = std::make_shared<PredictOptions>();
  const CLI::Validator extent = accepted_by(parse_extent, "DxHxW, such as 64x64x32");
  const CLI::Validator spacing = accepted_by(parse_spacing, "mm, such as 1.25 or 1x1x2.5, or 0");

  CLI::Option_group* source = command->add_option_group("Model", "One of the two");
  source->add_option("--run", options->run, "Run folder of semivox train");
  source->add_option("--weights", options->weights, "Safetensors file with PyTorch's names");
  source->require_option(1);
  command->add_option("--checkpoint", options->checkpoint, "Of the run: final (default), best or latest")
      ->check(CLI::IsMember({"final", "best", "latest"}));
  command
      ->add_option("--input", options->input,
                   "Scan (.nii.gz, .nii, .h5, .png), folder of scans, or data set folder")
      ->required();
  command
      ->add_option(
          "--list", options->list,
          "Of a data set folder: all cases (default), or those under validation or test in splits.json")
      ->check(CLI::IsMember(case_lists()));
  command->add_option("--output", options->output, "Folder for CASE.nii.gz")->required();

  const std::string group = "Settings (default: what the weights say of themselves)";
  const auto setting = [&](const char* flag, const char* field, const char* help) {
    return add_setting(*command, *options, flag, field, help)->group(group);
  };
  setting("--network", "semivox.network", "Network (semivox methods lists them)")
      ->check(CLI::IsMember(network_names()));
  setting("--filters", "semivox.filters", "Width of the network's first stage")->check(CLI::Range(1, 65536));
  setting("--in-channels", "semivox.in_channels", "Channels of a scan")->check(CLI::Range(1, 65536));
  setting("--classes", "semivox.classes", "Classes with background")->check(CLI::Range(2, 16));
  setting("--norm", "semivox.norm", "none, batchnorm, groupnorm or instancenorm")
      ->check(CLI::IsMember({"none", "batchnorm", "groupnorm", "instancenorm"}));
  setting("--residual", "semivox.residual", "Residual stages: true or false")
      ->check(CLI::IsMember({"true", "false"}));
  setting("--patch", "semivox.patch", "Window, DxHxW")->check(extent);
  setting("--spacing", "semivox.spacing", "Resample to this spacing in mm, and back; 0: the file's own")
      ->check(spacing);
  setting("--normalize", "semivox.normalize",
          "none, zscore, zscore_positive, minmax or window:LOW:HIGH; one word for each channel with commas "
          "between");
  setting("--slice-axis", "semivox.slice_axis",
          "2D networks: array axis of the slices, 0, 1, 2 or auto (2 in NIfTI, 0 in HDF5 files)")
      ->check(CLI::IsMember({"auto", "0", "1", "2"}));
  setting("--fit", "semivox.fit", "2D networks: zoom (each slice to the patch and back) or crop (windows)")
      ->check(CLI::IsMember({"zoom", "crop"}));

  command
      ->add_option_function<std::string>(
          "--stride", [options](const std::string& word) { options->windows.stride = *parse_extent(word); },
          "Step between windows, DxHxW (default: a quarter of the patch; the papers' for LA: 18x18x4)")
      ->check(extent);
  command
      ->add_option_function<std::string>(
          "--weighting",
          [options](const std::string& word) {
            options->windows.weighting =
                word == "gaussian" ? WindowOptions::Weighting::gaussian : WindowOptions::Weighting::uniform;
          },
          "Of a window's voxels: uniform (default) or gaussian")
      ->check(CLI::IsMember({"uniform", "gaussian"}));
  command->add_option("--window-batch", options->windows.batch, "Windows per forward pass (default 1)")
      ->check(CLI::Range(1, 65536));
  CLI::Option* whole =
      command->add_flag("--whole-volume", options->windows.whole_volume, "The whole scan as one window");
  for (const char* windows : {"--patch", "--stride", "--weighting", "--window-batch"})
    whole->excludes(command->get_option(windows));
  command->add_flag("--mirror", options->windows.mirror, "Average over all combinations of mirrored axes");
  command
      ->add_option("--largest-component", options->neighbours,
                   "Keep the largest component of each class; 6, 18 or 26 (default) neighbours")
      ->expected(0, 1)
      ->default_str("26")
      ->check(CLI::IsMember({6, 18, 26}));
  command->add_flag("--probabilities", options->probabilities,
                    "Write CASE_prob<k>.nii.gz for each class k >= 1");
  command->add_flag("--overlay", options->overlay, "Write CASE.png");
  command->add_flag("--continue", options->skip_finished, "Leave out cases whose CASE.nii.gz is there");
  command->add_option("--device", options->device, "auto (default), cpu, cuda or cuda:<index>");
  command
      ->add_option_function<std::string>(
          "--precision",
          [options](const std::string& word) {
            options->precision = word == "bf16" ? DType::bf16 : DType::f32;
          },
          "f32 (default) or bf16")
      ->check(CLI::IsMember({"f32", "bf16"}));
  command->callback([options] { run_predict(*options); });
}

}  // namespace semivox
