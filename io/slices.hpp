// Volumes as stacks of 2D slices: which axis the slices lie along, and the order of the voxels with that axis
// first.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "io/volume.hpp"

namespace semivox::io {

/// Array axis along which the slices of a 2D network are stacked.
enum class SliceAxis {
  none,       ///< a volume for a 3D network
  automatic,  ///< by file format: the last axis of NIfTI files, the first of HDF5 files and pictures
  first,
  second,
  third,
};

/// Parses "auto", "0", "1" or "2"; throws UsageError otherwise.
SliceAxis parse_slice_axis(const std::string& word);

/// The word that `parse_slice_axis` reads; "none" for volumes.
std::string name_of(SliceAxis axis);

/// The axis in a scan of this file: 0, 1 or 2, and 0 for a 2D image, which is one slice; -1 for `none`.
int slice_axis_of(SliceAxis axis, const std::string& file, const Extent3& shape);

/// The shape with axis `axis` (0, 1, 2, or -1 for no change) in front; the others keep their order.
Extent3 slices_first(const Extent3& shape, int axis);

/// The voxels of a scan of `shape`, each of `voxel_bytes` bytes, in the order of `slices_first(shape, axis)`.
std::vector<std::byte> slices_first(const void* voxels, const Extent3& shape, int axis, int64_t voxel_bytes);

/// The inverse: from slices first to the array order of `shape`.
std::vector<std::byte> array_order(const void* slices, const Extent3& shape, int axis, int64_t voxel_bytes);

}  // namespace semivox::io
