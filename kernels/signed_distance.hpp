// Signed distance maps of segmentations: what DTC (Luo et al., AAAI 2021) and SASSNet (Li et al., MICCAI
// 2020) teach a network beside the segmentation itself.
#pragma once

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// The signed distance map of every sample's foreground F (labels != 0), f32, on the device of the labels:
///
///   outside F           d_out / max d_out        in (0, 1]
///   inside, d_in > 1    -d_in / max d_in         in [-1, 0)
///   inside, d_in = 1    0                        the inner boundary: a face neighbour lies outside
///
/// d_out and d_in are Euclidean distances, in voxels, to the nearest voxel of F and outside F; the maxima are
/// over the sample, so the two sides are scaled separately. Beyond the border of the volume lies nothing: an
/// object that it cuts has no boundary there. Samples without foreground, and those that are all foreground,
/// are 0. Squared distances are exact integers, roots and quotients are taken in f64 and rounded once.
///
/// labels: u8 (N,1,D,H,W), with the squared diagonal below 2^24.
Tensor signed_distance(const Tensor& labels);

}  // namespace semivox::kernels
