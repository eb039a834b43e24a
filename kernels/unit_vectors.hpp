// Feature vectors of length one: every voxel's channels divided by their Euclidean norm.
#pragma once

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// Vectors shorter than this are divided by it instead.
constexpr double kShortestVector = 1e-12;

/// y = x / max(|x|, kShortestVector) for every row of x (N,C,D,H,W), f32, bf16 or f64. y is f32 (f64).
/// `squares` receives |x|^2, f64, one per row.
Tensor unit_vectors(const Tensor& x, Tensor& squares);

/// Gradient of x, in `dtype`, from y, dy and the squares.
Tensor unit_vectors_backward(const Tensor& y, const Tensor& squares, const Tensor& dy, DType dtype);

}  // namespace semivox::kernels
