// A trained network from a weights file or a run folder, with everything that prediction has to know about
// it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "io/case_cache.hpp"
#include "layers/network.hpp"

namespace semivox {

/// A safetensors file and where in it the network lies.
struct ModelFile {
  std::string path;
  std::string prefix;  ///< of the weights' names
};

/// RUN/checkpoints/<checkpoint>.safetensors; checkpoint is best, final or latest (the student of a training
/// state). Throws DataError naming what there is instead when the run or the checkpoint does not exist.
ModelFile model_file_of_run(const std::string& run, const std::string& checkpoint);

struct Model {
  std::unique_ptr<Network> network;
  io::Preparation preparation;
  std::array<int64_t, 3> patch{0, 0, 0};  ///< the patch that it was trained with; zeros when unknown
  bool zoom_slices = false;               ///< slices are zoomed to the patch
};

/// Builds the network that the file's metadata describe and loads its weights. `settings` has the metadata's
/// keys (`semivox.network`, `semivox.filters`, ..., `semivox.patch`, `semivox.spacing`, `semivox.normalize`,
/// `semivox.slice_axis`, `semivox.fit`)
/// and goes before the metadata; what neither says is NetworkOptions' default, the file's own spacing and no
/// normalisation. Throws DataError naming file and field.
Model load_model(const ModelFile& file, const std::map<std::string, std::string>& settings, DType precision,
                 Device device);

}  // namespace semivox
