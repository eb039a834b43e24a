// Grid distortion: an image is cut into cells along every axis, and each cell is stretched or squeezed by a
// factor of its own; intensities are interpolated linearly, labels take the nearest voxel. The augmentation
// of RCPS's loader (Zhao et al., JBHI 2023).
//
// Every axis moves by itself, so that a distortion is one list of source coordinates per axis.
#pragma once

#include <array>
#include <vector>

#include "engine/random.hpp"
#include "kernels/gather.hpp"

namespace semivox::kernels {

/// Source coordinate, in voxels, of every voxel of an axis of `size` voxels with `factors.size() - 1` cells
/// of size / cells voxels. Within cell k the coordinates run evenly from where the cell before ended to cell
/// * factors[k] further, both ends included; the last, incomplete cell ends at `size`. Coordinates beyond the
/// last voxel stand for the last voxel. An axis with fewer voxels than cells stays as it is.
std::vector<float> distorted_axis(int64_t size, const std::vector<double>& factors);

/// The coordinates of the three axes with factors 1 + U(-limit, limit), axis after axis numbers first,
/// first+1,
/// ... of `random`.
std::array<std::vector<float>, 3> draw_grid_distortion(const std::array<int64_t, 3>& size, int64_t cells,
                                                       double limit, const RandomStream& random,
                                                       uint64_t first);

/// Where a patch of a distorted scan comes from: coordinate i of axis a is source[a][i]; a negative one is
/// padding, which is 0.
struct DistortedPatch {
  GatherSample scan;              ///< its `map` is not used
  std::array<int64_t, 3> size{};  ///< D, H, W of the scan
  std::array<std::vector<float>, 3> source;
};

/// Fills `image` (1, C, D, H, W) f32 and, when it is defined, `label` (1, 1, D, H, W) u8; the lengths of
/// `source` are D, H, W. Voxels half-way between two take the label of the even one.
void gather_distorted(const DistortedPatch& patch, const Tensor& image, const Tensor& label);

}  // namespace semivox::kernels
