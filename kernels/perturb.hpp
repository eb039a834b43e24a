// Perturbations of feature maps that a segmentation shall not depend on (Ouali et al., "Semi-supervised
// semantic segmentation with cross-consistency training", CVPR 2020, as in SSL4MIS), with their gradients.
#pragma once

#include "engine/random.hpp"
#include "engine/step_value.hpp"
#include "engine/tensor.hpp"

namespace semivox::kernels {

/// u8 (N,1,D,H,W) of feature maps x (N,C,D,H,W): 1 where the mean over the channels is below `ratio` times
/// the sample's largest such mean, 0 where the features are strongest.
Tensor weak_positions(const Tensor& x, StepNumber ratio);

/// x where the mask (N,1,D,H,W) u8 is not 0, else 0. The gradient is the same function of the gradient.
Tensor mask_positions(const Tensor& x, const Tensor& mask);

/// x (1 + e), e uniform in (-bound, bound) of its own for every channel and voxel but the same for all
/// samples: number (voxel, channel), in memory order, of `random`. The gradient is the same function of the
/// gradient.
Tensor scale_by_noise(const Tensor& x, double bound, const RandomStream& random);

}  // namespace semivox::kernels
