// URPC's consistency by itself, for tests and for methods that build on it; the method is in methods/urpc.cu.
#pragma once

#include <vector>

#include "kernels/voxel_program.hpp"

namespace semivox {

/// Uncertainty-rectified consistency of four heads with their mean m, on samples without labels:
///
///   v_s = KL(m || p_s),   R_s = mean[(m - p_s)^2 exp(-v_s)] / (mean[exp(-v_s)] + 1e-8) + mean[v_s]
///
/// means over voxels (and, of the square, over classes). heads: four logits (N,C,D,H,W) of one shape with C
/// at most 4. The gradient flows through m and through the weights. results: mean of the R_s, then R_1 ...
/// R_4.
LossValue pyramid_consistency(const std::vector<Variable>& heads);

}  // namespace semivox
