// A data set decoded once and kept on the device that trains: no loader processes, no files during training.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/tensor.hpp"
#include "io/case_reader.hpp"
#include "io/normalize.hpp"
#include "io/slices.hpp"

namespace semivox::io {

struct CachedCase {
  std::string id;
  Extent3 shape{0, 0, 0};  ///< of the cached grid, slices first
  int slice_axis = -1;     ///< array axis of the file along which the slices lie, -1 for a volume
  Tensor image;     ///< (1, C, D, H, W): u8 or i16 as stored in the file, f32 once resampled or normalised
  float slope = 1;  ///< an image value is fma(slope, stored, intercept)
  float intercept = 0;
  Tensor label;  ///< (1, 1, D, H, W) u8, undefined when hidden or missing

  Extent3 input_shape{0, 0, 0};  ///< of the file's grid, onto which predictions go back
  Geometry input_geometry;

  int64_t bytes() const { return image.bytes() + (label.defined() ? label.bytes() : 0); }
};

/// What happens to a scan between file and network.
struct Preparation {
  std::vector<Normalization> normalization;  ///< one per channel or one for all; empty: none
  std::array<double, 3> spacing{0, 0, 0};    ///< mm to resample to; zeros keep the file's grid
  SliceAxis slice_axis = SliceAxis::none;    ///< for 2D networks: this axis goes in front
  bool resamples() const { return spacing[0] > 0; }

  /// Throws UsageError when there is neither one nor `channels` normalisations.
  Normalization normalization_of(size_t channel, size_t channels) const;
};

/// The channels of a case, normalised and resampled, on the grid of the file or the resampled one. `files`:
/// of each channel, for messages. Throws DataError for voxels that are NaN or infinite, for channels of
/// different shapes, and when a file without spacing is to be resampled.
std::vector<Image> prepare_channels(std::vector<Image> channels, const Preparation& preparation,
                                    const CaseFiles& files);

/// Channels of one shape as voxels (D, H, W, C).
std::vector<float> interleave(const std::vector<Image>& channels);

enum class Labels {
  read,
  hide,  ///< do not even open them
};

/// Voxels of `voxel_bytes` bytes on the cached grid of a case, in the array order of its file.
std::vector<std::byte> in_array_order(const CachedCase& cached, const void* voxels, int64_t voxel_bytes);

/// Shape of the cached grid in the array order of the file.
Extent3 array_shape(const CachedCase& cached);

/// Decodes the cases `indices` of the folder, several at a time, and puts them on `device`. Throws DataError
/// for the first case (in order of `indices`) that cannot be used.
std::vector<CachedCase> load_cases(const DatasetFolder& folder, const std::vector<int64_t>& indices,
                                   Labels labels, const Preparation& preparation, Device device);

}  // namespace semivox::io
