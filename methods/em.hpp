// The entropy term of entropy minimisation by itself, for tests and for methods that build on it; the method
// is in methods/em.cu.
#pragma once

#include "kernels/voxel_program.hpp"

namespace semivox {

/// Mean over all N * D * H * W voxels of -sum_c p_c log(p_c + 1e-6) / ln C, p = softmax of the logits
/// (N,C,D,H,W), C >= 2: 0 for certainty, 1 for indifference. results: loss.
LossValue normalized_entropy(const Variable& logits);

}  // namespace semivox
