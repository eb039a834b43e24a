// Random crop, padding, flip and quarter turn of a training sample, as the left-atrium literature draws them
// (Yu et al., MICCAI 2019, and the methods that build on its loader), or a grid distortion and a crop (Zhao
// et al., "RCPS", JBHI 2023).
#pragma once

#include <array>
#include <string>
#include <vector>

#include "engine/random.hpp"
#include "io/volume.hpp"
#include "kernels/gather.hpp"

namespace semivox::io {

enum class AugmentMode {
  rotflip,         ///< quarter turn in the plane of axes 0 and 1, flip along one of the two, random crop
  crop,            ///< random crop
  distort,         ///< grid distortion of the scan with probability 0.1, random crop
  none,            ///< centre crop
  rotate,          ///< slices only, io/slice_augment.hpp: rotation by up to 20 degrees
  rotflip_rotate,  ///< slices only: `rotflip`, `rotate` or nothing
};

/// Parses "rotflip", "crop", "distort", "none", "rotate" or "rotflip_rotate"; throws UsageError otherwise.
AugmentMode parse_augment_mode(const std::string& word);

/// What happens to a scan, in this order: turn, flip or distort, pad on both sides, crop a patch.
struct Augmentation {
  int quarter_turns = 0;  ///< counter-clockwise in (axis 0, axis 1): 1 is out[i][j] = in[j][n1 - 1 - i]
  int flip_axis = -1;     ///< 0 or 1 of the turned scan, -1 for none
  std::array<std::vector<float>, 3> distortion;  ///< source coordinates of the scan's axes, or empty: none
  Extent3 padding{0, 0, 0};
  Extent3 start{0, 0, 0};  ///< first voxel of the patch in the padded scan
};

/// Draws an augmentation (`rotflip`, `crop` or `none`) for a scan of `shape` and patches of `patch` voxels.
///
/// When any axis is not longer than the patch, every axis is padded on both sides by
/// max(floor((patch - size) / 2) + 3, 0). A random start is uniform in 0 ... padded - patch - 1 (the last
/// possible start is never drawn, but by `distort`); the centre start is (padded - patch) / 2 rounded half to
/// even. A distortion has 5 cells per axis and factors 1 +- 0.1.
Augmentation draw_augmentation(AugmentMode mode, const Extent3& shape, const Extent3& patch,
                               RandomStream random);

/// The same, but for a distortion, as one map from patch voxels to voxels of the scan.
kernels::IndexMap index_map(const Augmentation& augmentation, const Extent3& shape, const Extent3& patch);

/// Source coordinates of the patch's axes under a distortion, negative in the padding.
std::array<std::vector<float>, 3> distorted_coordinates(const Augmentation& augmentation,
                                                        const Extent3& shape, const Extent3& patch);

}  // namespace semivox::io
