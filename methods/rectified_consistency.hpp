// Uncertainty-rectified consistency of a student with a teacher (Lu et al., "Uncertainty-aware pseudo-label
// and consistency for semi-supervised medical image segmentation", BSPC 2023).
//
//   h = argmax_c q,   KL = sum_c q_c (log q_c - log p_c),   L = mean_v(-log p_h exp(-KL)) + mean_v(KL)
//
// The teacher's hard label supervises the student, less where the two disagree; the KL term keeps the student
// from escaping by disagreement. The gradient also flows through the weight exp(-KL).
#pragma once

#include "kernels/voxel_program.hpp"

namespace semivox {

/// logits (N,C,D,H,W) of the student (p), teacher: logits of the same shape (q). Ties of the hard label go to
/// the lower class; means run over all N * D * H * W voxels. results: loss, mean weighted CE, mean KL.
LossValue rectified_consistency(const Variable& logits, const Tensor& teacher);

}  // namespace semivox
