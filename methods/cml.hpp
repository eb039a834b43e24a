// CML's losses by themselves, for tests; the method is in methods/cml.cpp.
#pragma once

#include "kernels/voxel_program.hpp"

namespace semivox {

/// S = 1/2 (CE + Dice) of logits (N,C,D,H,W) and labels (N,1,D,H,W) u8: Dice per sample and class, background
/// included, without squares. It is BCP's loss with one region that covers everything. results: as
/// `bcp_loss`.
LossValue cml_supervision(const Variable& logits, const Tensor& labels);

/// D(f1, f2) + D(f2, f1), D(f1, f2) = 1 + mean cos(f1, sg(f2)) over voxels (Wu et al. 2024): in [0, 4], low
/// when the two networks' embeddings point in different directions. features (N, 2F, d, h, w): f1, then f2.
/// results: loss, mean cosine.
LossValue conflict_loss(const Variable& features);

}  // namespace semivox
