// Mixup (Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018): convex combinations of
// samples.
#pragma once

#include <vector>

#include "engine/step_value.hpp"
#include "engine/tensor.hpp"

namespace semivox::kernels {

/// out[n] = (1 - gamma[n]) a[n] + gamma[n] b[n]; a and b (N,C,D,H,W) f32 or f64, N = gamma.size().
Tensor interpolate_samples(const Tensor& a, const Tensor& b, const std::vector<StepNumber>& gamma);

}  // namespace semivox::kernels
