// Sliding-window prediction on the device: softmax scores of windows are added up over a volume, then divided
// by their weight.
//
// The weight of a voxel in a window is a product of one factor per axis, and the windows stand on a grid, so
// the sum of the weights that a voxel receives is a product of one sum per axis: no volume of counts is
// needed.
#pragma once

#include <array>
#include <cstdint>

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// Where a window lies in the volume, and along which axes it was mirrored before the network saw it.
struct WindowPlace {
  std::array<int64_t, 3> start{0, 0, 0};  ///< negative where the volume was padded
  std::array<bool, 3> mirror{false, false, false};
};

/// scores (1, K, D, H, W) += weight * softmax(logits) over the part of the window that lies in the volume.
/// logits (1, K, P0, P1, P2), both f32. weights: f32, P0 + P1 + P2 elements, the factors along each axis.
void add_softmax_window(const Tensor& logits, const WindowPlace& place, const Tensor& weights,
                        Tensor& scores);

/// scores (1, K, D, H, W) /= totals[d] totals[D + h] totals[D + H + w]; totals: f32, D + H + W elements.
void divide_by_totals(const Tensor& totals, Tensor& scores);

/// The class of highest score, ties to the lower class: scores (N, K, D, H, W) f32 -> labels (N, 1, D, H, W)
/// u8.
Tensor argmax_classes(const Tensor& scores);

}  // namespace semivox::kernels
