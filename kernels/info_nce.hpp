// InfoNCE between voxels of two views and a list of negatives, forward and backward.
//
//   loss_i = log( exp(q_i.p_i / t) + sum_j exp(q_i.k_j / t) + 1e-8 ) - q_i.p_i / t
//
// q_i: an anchor's unit vector in one view, p_i: the same voxel in the other view, k_j: the negatives of the
// anchor's class. Both views are anchors once; the loss is the mean over the anchors of one direction plus
// that of the other (Zhao et al., "RCPS", JBHI 2023).
//
// Similarities are never stored: forward runs through the negatives in tiles with a softmax that carries its
// maximum along, and keeps one number per anchor; backward computes them again. Memory is O(N F) for N
// anchors of F features. All sums have a fixed order.
#pragma once

#include "engine/tensor.hpp"
#include "kernels/negative_sampling.hpp"

namespace semivox::kernels {

/// Rows of length 1: x / max(|x|, 1e-12).
struct UnitRows {
  Tensor rows;     ///< (rows, F), f32, or f64 for f64 x
  Tensor inverse;  ///< (rows) 1 / max(|x|, 1e-12)
};

/// Of the feature vectors of x (N,F,D,H,W), f32, bf16 or f64.
UnitRows unit_rows(const Tensor& x);

/// Gradient of x of `shape` and `dtype` from the gradient of the unit vectors.
Tensor unit_rows_backward(const UnitRows& unit, const Tensor& gradient, const Shape& shape, DType dtype);

/// What the loss is taken of, and what backward needs of forward.
struct InfoNce {
  UnitRows a, b;        ///< the two views, (N, F)
  UnitRows negatives;   ///< (M, F)
  Tensor classes;       ///< u8, N elements: which list an anchor takes
  NegativeLists lists;  ///< over the M negatives
  double temperature = 0.1;
  Tensor keys;      ///< (C, F, places): the listed negatives, written by forward
  Tensor log_sums;  ///< (2, N): log of the sums over positive and negatives, written by forward
};

/// The loss as one f64 element; fills `keys` and `log_sums`.
Tensor info_nce_forward(InfoNce& contrast);

/// Gradients of the unit vectors of a, b and the negatives.
struct InfoNceGradients {
  Tensor a, b, negatives;
};

/// `upstream`: one f64 element on the device.
InfoNceGradients info_nce_backward(const InfoNce& contrast, const Tensor& upstream);

}  // namespace semivox::kernels
