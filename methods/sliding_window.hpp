// Prediction of a whole volume from overlapping windows, as the semi-supervised literature does it (test
// scripts of Yu et al., MICCAI 2019, and their descendants): softmax probabilities of all windows that cover
// a voxel, averaged.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "layers/network.hpp"

namespace semivox {

struct WindowOptions {
  enum class Weighting {
    uniform,  ///< every voxel of a window counts alike (the papers)
    gaussian  ///< exp(-x^2 / 2 sigma^2) along each axis, x from the centre, sigma = patch / 8
  };
  std::array<int64_t, 3> patch{112, 112, 80};
  std::array<int64_t, 3> stride{18, 18, 4};
  Weighting weighting = Weighting::uniform;
  int64_t batch = 1;          ///< windows per forward pass
  bool whole_volume = false;  ///< one window: the volume, padded to multiples of the network's divisor
  bool mirror = false;        ///< average over all eight combinations of mirrored axes
  /// 2D networks: each slice along axis 0, zoomed to the patch and back, is a window.
  bool zoom_slices = false;
};

/// Starts of the windows along an axis of `size` >= `patch` voxels: min(i * stride, size - patch),
/// i = 0 ... ceil((size - patch) / stride).
std::vector<int64_t> window_starts(int64_t size, int64_t patch, int64_t stride);

/// Throws UsageError for a stride that leaves gaps, a patch that is no multiple of the network's divisor, or
/// an empty batch.
void check_windows(const WindowOptions& options, const std::array<int64_t, 3>& divisor);

/// How many windows cover a volume of this shape, the mirrored ones not counted.
int64_t window_count(const Network& network, const std::array<int64_t, 3>& shape,
                     const WindowOptions& options);

/// Mean probabilities (1, classes, D, H, W) f32 of an image (1, C, D, H, W) f32 on the network's device.
///
/// With `zoom_slices` see methods/slice_prediction.hpp; nothing else of the following holds then but the
/// modes. An axis shorter than the patch is padded with zeros on both sides, the odd voxel behind, and cut
/// back. The network runs in evaluation mode and without gradients. Windows are added up in a fixed order,
/// whatever the batch. Throws UsageError for a stride that leaves gaps or a patch that the network cannot
/// take.
Tensor predict_probabilities(Network& network, const Tensor& image, const WindowOptions& options);

/// The label map (N, 1, D, H, W) u8 of probabilities (N, K, D, H, W): the class of highest probability, ties
/// to the lower class; for two classes the same as p1 > 0.5. `neighbours` 6, 18 or 26 keeps the largest
/// component of each class; 0 keeps everything.
Tensor argmax_labels(const Tensor& probabilities, int neighbours = 0);

}  // namespace semivox
