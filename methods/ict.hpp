// The parts of interpolation consistency training by themselves, for tests and for methods that build on
// them; the method is in methods/ict.cu.
#pragma once

#include "engine/random.hpp"
#include "kernels/voxel_program.hpp"

namespace semivox {

/// Mean over all N * C * D * H * W elements of (softmax(z) - q)^2. logits (N,C,D,H,W), target: probabilities
/// q of the same shape. results: loss.
LossValue distance_to_target(const Variable& logits, const Tensor& target);

/// A number in [0, 1] from Beta(alpha, alpha), 0 < alpha <= 1. Draws 0, 1, 2, ... of `random`, two for every
/// attempt of Johnk's method of rejection.
double draw_beta(double alpha, const RandomStream& random);

}  // namespace semivox
