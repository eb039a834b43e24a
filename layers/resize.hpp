// Differentiable ops between resolutions: pooling and up-sampling.
#pragma once

#include "engine/variable.hpp"
#include "kernels/pool.hpp"
#include "kernels/resize.hpp"

namespace semivox {

/// Maximum over 2x2x2 (volume) or 1x2x2 (slice) voxels; pooled axes must be even. Keeps x.
Variable max_pool(const Variable& x, kernels::Grid grid);

/// Mean over all voxels, (N, C, D, H, W) -> (N, C, 1, 1, 1). Keeps nothing.
Variable global_average(const Variable& x);

/// x with D, H and W voxels along its axes. Keeps nothing.
Variable resize(const Variable& x, const std::array<int64_t, 3>& size, kernels::Interpolation interpolation);

/// x at `factor` times its size along every axis, or along H and W alone (slice). Keeps nothing.
Variable upsample(const Variable& x, int64_t factor, kernels::Interpolation interpolation,
                  kernels::Grid grid = kernels::Grid::volume);

}  // namespace semivox
