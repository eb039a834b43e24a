#include "apps/model_file.hpp"

#include <filesystem>

#include "apps/extent.hpp"
#include "engine/error.hpp"
#include "io/slice_augment.hpp"
#include "methods/weights.hpp"

namespace semivox {
namespace fs = std::filesystem;

ModelFile model_file_of_run(const std::string& run, const std::string& checkpoint) {
  if (!fs::is_directory(run)) throw DataError(text(run, ": the run folder does not exist"));
  const auto path_of = [&](const std::string& name) {
    return (fs::path(run) / "checkpoints" / (name + ".safetensors")).string();
  };
  if (!fs::is_regular_file(path_of(checkpoint))) {
    std::string present;
    for (const char* name : {"best", "final", "latest"}) {
      if (fs::is_regular_file(path_of(name))) present += (present.empty() ? "" : ", ") + std::string(name);
    }
    throw DataError(text(path_of(checkpoint), ": the checkpoint does not exist; the run has ",
                         present.empty() ? "none" : present));
  }
  return {path_of(checkpoint), checkpoint == "latest" ? "student/" : ""};
}

Model load_model(const ModelFile& file, const std::map<std::string, std::string>& settings, DType precision,
                 Device device) {
  const SafetensorsFile weights = read_safetensors(file.path);
  auto description = settings;
  description.insert(weights.metadata.begin(), weights.metadata.end());  // keeps what is there

  Model model;
  NetworkOptions options = network_options_from(description, file.path);
  options.dropout = 0;  // plays no part in prediction
  model.network = make_network(options);
  model.network->allocate(precision, device, false);
  load_weights(*model.network, weights, file.path, file.prefix);

  const auto read = [&](const char* field, const char* expected, auto&& parse, auto& target) {
    const auto entry = description.find(field);
    if (entry == description.end()) return;
    const auto value = parse(entry->second);
    if (!value) {
      throw DataError(
          text(file.path, ": metadata ", field, ": found '", entry->second, "', expected ", expected));
    }
    target = *value;
  };
  read("semivox.patch", "DxHxW", parse_extent, model.patch);
  read("semivox.spacing", "mm, one number or three with x between", parse_spacing, model.preparation.spacing);
  if (const auto entry = description.find("semivox.normalize"); entry != description.end()) {
    model.preparation.normalization = io::parse_normalizations(entry->second);
  }
  if (const auto entry = description.find("semivox.slice_axis"); entry != description.end()) {
    model.preparation.slice_axis = io::parse_slice_axis(entry->second);
  }
  if (const auto entry = description.find("semivox.fit"); entry != description.end()) {
    model.zoom_slices = io::parse_slice_fit(entry->second) == io::SliceFit::zoom;
  }
  // A network that takes single slices needs them in front, whoever wrote the weights.
  if (model.network->divisor()[0] == 1 && model.patch[0] == 1 &&
      model.preparation.slice_axis == io::SliceAxis::none) {
    model.preparation.slice_axis = io::SliceAxis::automatic;
  }
  return model;
}

}  // namespace semivox
