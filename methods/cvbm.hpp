// CVBM's losses by themselves, for tests; the method is in methods/cvbm.cpp. Those of the foreground, and of
// the background when there are two classes, are BCP's.
#pragma once

#include "kernels/voxel_program.hpp"

namespace semivox {

/// What the background's decoder is held against in one region of several classes: from a label map
/// (N,1,D,H,W) u8, T_c = [label != c], or T_c = c [label == c] with `scaled`.
struct BackgroundTarget {
  Tensor labels;
  bool scaled = false;
};

struct BackgroundLossOptions {
  double outer_weight = 1.0, inner_weight = 1.0;
  /// CE' takes the logarithm of softmax(softmax(z)), as in the 2D code.
  bool softmax_twice = true;
};

/// The background decoder's loss for several classes, with the mask M = 1 outside the box and 0 inside:
/// per class 1 - (2 sum p T m + s) / (sum p^2 m + sum T^2 m + s), s = 1e-10, sums over the batch, and
/// CE' = 1/C sum_c sum m (-T_c log r_c) / (sum m + 1e-16). results: 1/2 (CE' + Dice) with the regions'
/// weights, weighted CE', weighted Dice.
LossValue background_loss(const Variable& logits, const BackgroundTarget& outer,
                          const BackgroundTarget& inner, const Tensor& mask,
                          const BackgroundLossOptions& options);

/// Mean over samples, voxels and classes of (softmax(a) - softmax(b))^2, with -b for b when `inverse`
/// (softmax(1 - b) is the same). Both get gradients. results: the mean.
LossValue probability_distance(const Variable& a, const Variable& b, bool inverse);

/// [label == 0] of a label map, u8: what is background becomes 1.
Tensor background_of(const Tensor& labels);

}  // namespace semivox
