// Cross-entropy with another network's decisions by itself, for tests and for methods that build on it; CPS
// is in methods/cps.cu.
#pragma once

#include "kernels/voxel_program.hpp"

namespace semivox {

/// Mean over all N * D * H * W voxels of -log softmax(z)[label]. logits (N,C,D,H,W), labels (N,1,D,H,W) u8
/// below C. results: loss.
LossValue label_cross_entropy(const Variable& logits, const Tensor& labels);

}  // namespace semivox
