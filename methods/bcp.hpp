// BCP's loss by itself, for tests and for methods that build on it; the method is in methods/bcp.cpp.
#pragma once

#include "kernels/voxel_program.hpp"

namespace semivox {

struct BcpLossOptions {
  double outer_weight = 1.0, inner_weight = 1.0;
  /// The form used on 2D data: squares in Dice's denominator, sums pooled over the batch, smoothing 1e-10.
  /// Otherwise no squares, one Dice per sample, smoothing 1e-5.
  bool pooled_squares = false;
  /// Sums of the background ignore the mask, as in the first release of the 2D code.
  bool unmasked_background = false;
  /// Dice of softmax(softmax(z)), as released with CVBM for pre-training in 3D.
  bool dice_softmax_twice = false;
};

/// Masked CE and Dice of a mixed image: M = 1 (outside the box) is held against the labels `outer`, M = 0
/// against `inner`. logits (N,C,D,H,W), outer and inner (N,1,D,H,W) u8, mask (1,1,D,H,W) u8. results: loss,
/// weighted CE, weighted Dice, then without weights CE outer, CE inner, Dice outer, Dice inner.
LossValue bcp_loss(const Variable& logits, const Tensor& outer, const Tensor& inner, const Tensor& mask,
                   const BcpLossOptions& options);

}  // namespace semivox
