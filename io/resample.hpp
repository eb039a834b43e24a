// Resampling between grids that cover the same box: images linearly, labels by the nearest voxel.
//
// The grids share their outer borders, so voxel i of n lies at (i + 1/2) / n of the box, and the position of
// an output voxel in input voxels is (i + 1/2) in / out - 1/2, clamped to the first and last voxel centre.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "io/volume.hpp"

namespace semivox::io {

/// Number of voxels per axis after resampling to `target` mm: size * spacing / target, rounded half up, at
/// least 1.
Extent3 resampled_shape(const Extent3& shape, const std::array<double, 3>& spacing,
                        const std::array<double, 3>& target);

/// Trilinear interpolation of `values` (D, H, W, C) from the grid `from` to the grid `to`, for images and for
/// probabilities on the way back to the input grid.
std::vector<float> resample_linear(const std::vector<float>& values, int64_t channels, const Extent3& from,
                                   const Extent3& to);

/// Labels of the nearest input voxel. An output voxel that lies halfway between 2, 4 or 8 input voxels (every
/// voxel, when the spacing doubles) takes the label that most of them have; a tied vote goes to the first or
/// the last of them in turn, by the parity of i + j + k, so that objects neither shift nor grow.
std::vector<uint8_t> resample_nearest(const std::vector<uint8_t>& labels, const Extent3& from,
                                      const Extent3& to);

/// Class of highest probability after linear interpolation of `probabilities` (D, H, W, C); ties go to the
/// lower class.
std::vector<uint8_t> resample_argmax(const std::vector<float>& probabilities, int64_t classes,
                                     const Extent3& from, const Extent3& to);

/// The scan on the grid `to`, with its new spacing and without the header of the old grid.
Image resample_image(const Image& image, const Extent3& to);

/// The label map on the grid `to`, likewise.
LabelMap resample_labels(const LabelMap& labels, const Extent3& to);

}  // namespace semivox::io
