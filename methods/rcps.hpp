// Losses of RCPS (Zhao et al., "RCPS: Rectified contrastive pseudo supervision for semi-supervised medical
// image segmentation", JBHI 2023) for one scale of the network; the method is in methods/rcps.cpp, the
// contrastive loss in layers/voxel_contrast.hpp.
#pragma once

#include <vector>

#include "kernels/voxel_program.hpp"

namespace semivox {

/// Dice + lambda CE of logits (N,C,D,H,W) and labels (N,1,D,H,W) u8.
///
///   CE = sum_v w_y (-log p_y) / sum_v w_y,    lambda = C / sum_c w_c
///   Dice = mean over n, c of 1 - (2 sum_v p g + 1e-5) / (sum_v p + sum_v g + 1e-5), background included
///
/// `class_weights`: w_c, one per class. results: loss, CE, Dice.
LossValue rcps_segmentation_loss(const Variable& logits, const Tensor& labels,
                                 const std::vector<double>& class_weights);

/// Rectified pseudo supervision of two views and their cosine consistency.
///
///   S = softmax(t / T),  P = softmax(t),  p = softmax(q)
///   l = -sum_c S_c log p_c,   K = sum_c P_c (log P_c - log p_c)
///   R(q, t) = mean_v exp(-K) l + mean_v K,     cos(q1, q2) = mean_v (1 - q1.q2 / (|q1| |q2|))
///
/// loss = R(first, target) + R(second, target) + cos(first, second), for the first `labeled` samples and for
/// the others separately, added up: each group has a mean of its own. first, second: logits (N,C,D,H,W), at
/// most 8 classes; target: logits of the same shape, a constant. `temperature` is T. The gradient also flows
/// through exp(-K). results: loss, exp(-K) l, K, cos, each summed over views and groups.
LossValue rcps_consistency_loss(const Variable& first, const Variable& second, const Tensor& target,
                                int64_t labeled, double temperature);

}  // namespace semivox
