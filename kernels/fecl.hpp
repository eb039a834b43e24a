// FeCL, DyCON's focal contrastive loss over patch embeddings (Assefa et al., CVPR 2025), as the published
// code computes it. For one sample with unit vectors f_i, i = 1 ... P, and classes m_i:
//
//   S_ij = f_i . f_j / tau,  S_ii = 0            E_ij = exp(S_ij - M_j),  M_j = max_i S_ij a constant
//   n_i  = sum of E_ik over patches k of another class          q_ij = E_ij / (E_ij + n_i + 1e-18)
//   L_s  = mean over i of [ mean over j != i of the class of i of -(1 - q_ij)^gamma log(q_ij + 1e-18) ]
//   L_x  = mean of -log(1 - f_i . t_j) over patches j of another class whose teacher's embedding t_j has
//          f_i . t_j > theta; over all samples together, 0 without such pairs
//   FeCL = L_s + lambda L_x
//
// M differs from column to column, so subtracting it changes the values: it belongs to the definition.
//
// No P x P matrix exists. Similarities are computed by strips of rows that hold at most 4 Mi pairs (16 MiB in
// f32), used and forgotten: once for M, once for the sums of the rows, once more for the gradient. As S is
// symmetric, the gradient by S_ij + S_ji can be had from one strip (M, n and the row sums of both patches are
// known), so that df_i = sum over j of that times f_j: no strip adds to another's rows. Forward needs two
// products of P x P x F multiplications, backward two; with the teacher one and two more. Sums run in double,
// in a fixed order.
#pragma once

#include "kernels/voxel_program.hpp"

namespace semivox::kernels {

struct FeclOptions {
  double temperature = 0.6;    ///< tau
  double focal = 2.0;          ///< gamma; 0: every positive pair counts alike
  double cross = 1.0;          ///< lambda
  StepNumber threshold = 0.3;  ///< theta
};

/// features, teacher: unit vectors (B,F,d,h,w), f32 or f64, the teacher's without gradient; labels
/// (B,1,d,h,w) u8: class of every patch. results: FeCL, L_s, L_x, number of pairs in L_x.
LossValue fecl(const Variable& features, const Tensor& teacher, const Tensor& labels,
               const FeclOptions& options);

}  // namespace semivox::kernels
