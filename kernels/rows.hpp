// Picked voxels of a feature map as a list of rows, and back.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// Row numbers (sample * voxels + voxel) as an i32 tensor (1,1,1,1,M) on `device`.
Tensor row_list(const std::vector<int32_t>& rows, Device device);

/// out (1,C,1,1,M): row m is row rows[m] of x (N,C,D,H,W), f32, f64 or bf16. Reads and writes M C elements.
Tensor gather_rows(const Tensor& x, const Tensor& rows);

/// out (N,C,D,H,W) = `shape`: row rows[m] is row m of x (1,C,1,1,M), every other one 0. No row may be listed
/// twice. Writes the whole of out and M C elements again.
Tensor scatter_rows(const Tensor& x, const Tensor& rows, const Shape& shape);

}  // namespace semivox::kernels
