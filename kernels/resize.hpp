// Resizing of feature maps by nearest or (bi-, tri-)linear interpolation, forward and backward.
//
// Along one axis a resize is a multiplication with a banded matrix, and its gradient one with the transposed
// matrix, which is banded too; three axes are three such passes. One kernel therefore does everything, as a
// gather: no atomics, the same bits for any number of threads. Bytes: each pass reads its input and writes
// its output once; doubling all three axes writes 2 + 4 + 8 times the input.
#pragma once

#include <array>

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// Which source position output voxel i of an axis shows, with n_in and n_out voxels before and after.
enum class Interpolation {
  nearest,        ///< floor(i n_in / n_out)
  linear,         ///< max((i + 1/2) n_in / n_out - 1/2, 0): PyTorch's align_corners = False
  linear_aligned  ///< i (n_in - 1) / (n_out - 1), 0 for one voxel: align_corners = True
};

/// x (N, D, H, W, C) at another size. Axes that keep their size cost nothing.
Tensor resize(const Tensor& x, const std::array<int64_t, 3>& size, Interpolation interpolation);

/// Gradient of x, which had `input_size`, from the gradient of the resized tensor.
Tensor resize_backward(const Tensor& dy, const std::array<int64_t, 3>& input_size,
                       Interpolation interpolation);

}  // namespace semivox::kernels
