// Conflict between the embeddings of two networks (CML: Wu et al., "Cross-view mutual learning for
// semi-supervised medical image segmentation", ACM Multimedia 2024):
//
//   D(a, b) + D(b, a),   D(a, b) = 1 + mean over voxels of cos(a, sg(b)),   sg: no gradient
//
// Each embedding gets its gradient from one of the two equal terms. A zero vector has cosine 0 and gradient
// 0.
#pragma once

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// pairs (N, 2F, D, H, W), f32, bf16 or f64: at every voxel a (F numbers), then b. Returns f64
/// (N, 3, D, H, W): cosine, 1/|a|, 1/|b|; the inverse norm of a zero vector is 0.
Tensor pair_cosines(const Tensor& pairs);

/// f64, 2 elements: D(a, b) + D(b, a) and the mean cosine, from `pair_cosines`.
Tensor conflict_forward(const Tensor& cosines);

/// Gradient of `pairs` from that of the conflict's value, one f64 element.
Tensor conflict_backward(const Tensor& pairs, const Tensor& cosines, const Tensor& upstream);

}  // namespace semivox::kernels
