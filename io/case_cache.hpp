// A data set decoded once and kept on the device that trains: no loader processes, no files during training.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/tensor.hpp"
#include "io/dataset.hpp"
#include "io/normalize.hpp"
#include "io/volume.hpp"

namespace semivox::io {

struct CachedCase {
  std::string id;
  Extent3 shape{0, 0, 0};  ///< of the cached grid
  Tensor image;     ///< (1, 1, D, H, W): u8 or i16 as stored in the file, f32 once resampled or normalised
  float slope = 1;  ///< an image value is fma(slope, stored, intercept)
  float intercept = 0;
  Tensor label;  ///< (1, 1, D, H, W) u8, undefined when hidden or missing

  Extent3 input_shape{0, 0, 0};  ///< of the file's grid, onto which predictions go back
  Geometry input_geometry;

  int64_t bytes() const { return image.bytes() + (label.defined() ? label.bytes() : 0); }
};

/// What happens to a scan between file and network.
struct Preparation {
  Normalization normalization;
  std::array<double, 3> spacing{0, 0, 0};  ///< mm to resample to; zeros keep the file's grid
  bool resamples() const { return spacing[0] > 0; }
};

/// Normalises a scan (with the statistics of its own voxels), then resamples it. `file` is for messages.
/// Throws DataError for voxels that are NaN or infinite, and when a file without spacing is to be resampled.
Image prepare_image(Image image, const Preparation& preparation, const std::string& file);

/// The scan of a case as floats, straight from its file.
Image read_case_image(const CaseFiles& files);

/// The label of a case on the file's grid. Throws DataError when it has none, or for values outside 0 ...
/// classes-1.
LabelMap read_case_label(const CaseFiles& files, int classes);

/// Throws DataError naming both files and both shapes unless image and label lie on the same grid.
void require_same_shape(const CaseFiles& files, const Extent3& image, const Extent3& label);

enum class Labels {
  read,
  hide,  ///< do not even open them
};

/// Decodes the cases `indices` of the folder, several at a time, and puts them on `device`. Throws DataError
/// for the first case (in order of `indices`) that cannot be used.
std::vector<CachedCase> load_cases(const DatasetFolder& folder, const std::vector<int64_t>& indices,
                                   Labels labels, const Preparation& preparation, Device device);

}  // namespace semivox::io
