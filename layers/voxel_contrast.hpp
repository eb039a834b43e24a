// Contrastive loss between the voxels of two views of an image, with confident negatives from another image
// (Zhao et al., "RCPS", JBHI 2023).
#pragma once

#include "engine/variable.hpp"

namespace semivox {

struct VoxelContrastOptions {
  double temperature = 0.1;
  int64_t negatives = 400;  ///< per anchor
  bool fill = true;         ///< with too few voxels of other classes: take voxels of the anchor's own
};

/// Bidirectional InfoNCE, one f64 element: mean over the voxels of the loss of view `a` against its voxel in
/// `b` and the negatives, plus that of `b` against `a`.
///
/// a, b, negatives: embeddings (N,F,D,H,W), (N,F,...) and (M,F,...), f32, bf16 or f64; they are brought to
/// length 1 here, and all three get gradients. anchor_logits (N,C,D,H,W) give the anchors' classes,
/// negative_logits (M,C,...) the negatives' classes and confidences: constants. Keeps the embeddings at
/// length 1 and O(C F negatives + N) numbers.
Variable voxel_contrast(const Variable& a, const Variable& b, const Variable& negatives,
                        const Tensor& anchor_logits, const Tensor& negative_logits,
                        const VoxelContrastOptions& options);

}  // namespace semivox
