// Pooling: the maximum over 2x2x2 or 1x2x2 voxels, the mean over all voxels; forward and backward.
#pragma once

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// Which axes a network halves and doubles.
enum class Grid {
  volume,  ///< all three
  slice    ///< H and W: 2D images, which have D = 1
};

/// Maximum over windows of 2x2x2 (slice: 1x2x2) voxels that do not overlap; x (N, D, H, W, C), pooled axes of
/// even size. A NaN in a window is its maximum. Bytes: reads x, writes 1/8 or 1/4 of it.
Tensor max_pool(const Tensor& x, Grid grid);

/// Gradient of x: dy goes to a window's maximum, the first in memory order among equal ones (as in PyTorch).
/// Bytes: reads x and dy, writes dx.
Tensor max_pool_backward(const Tensor& x, const Tensor& dy, Grid grid);

/// Mean over all voxels: (N, C, D, H, W) -> (N, C, 1, 1, 1).
Tensor global_average(const Tensor& x);

/// Gradient of x of `shape` from dy (N, C, 1, 1, 1).
Tensor global_average_backward(const Tensor& dy, const Shape& shape);

}  // namespace semivox::kernels
