// A scan or label map on the host: a 3D array in C order and where it lies in the world.
//
// Axes 0, 1, 2 are the array axes that NumPy, nibabel and h5py show (for NIfTI: i, j, k); the last axis
// varies fastest in memory. A 2D image has shape {1, H, W}.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace semivox::io {

using Extent3 = std::array<int64_t, 3>;

struct NiftiHeader;  // io/nifti_header.hpp

/// Everything of an input file's header that an output on the same grid must keep.
struct Geometry {
  std::array<double, 3> spacing{1, 1, 1};  ///< mm per voxel along array axes 0, 1, 2
  bool known = false;  ///< false for files that carry no geometry (HDF5): spacing is then nominal
  std::shared_ptr<const NiftiHeader> nifti_header;  ///< the input's header when it came from NIfTI, else null
};

/// One channel of a scan; `voxels[(i * shape[1] + j) * shape[2] + k]`.
struct Image {
  Extent3 shape{0, 0, 0};
  std::vector<float> voxels;
  Geometry geometry;
};

/// A label map with values 0 ... classes-1.
struct LabelMap {
  Extent3 shape{0, 0, 0};
  std::vector<uint8_t> voxels;
  Geometry geometry;
};

inline int64_t voxel_count(const Extent3& shape) { return shape[0] * shape[1] * shape[2]; }

}  // namespace semivox::io
