// Products of matrices. A tensor is a matrix with one row per voxel and one column per channel, in the order
// of memory.
#pragma once

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// c = alpha * op(a) * op(b) + beta * c, op(x) = x or its transpose. All three are f32, or f64 on the CPU,
/// and lie on one device; c is not read when beta = 0. On the CPU the result does not depend on the number of
/// threads.
void matmul(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b, double alpha, double beta,
            Tensor& c);

/// Rows first ... first+count-1 as a matrix of their own: a view (1, columns, 1, 1, count).
Tensor rows_of(const Tensor& matrix, int64_t first, int64_t count);

/// Sizes of op(a) * op(b) = c, checked.
struct MatmulSizes {
  int64_t rows, columns, inner;  ///< of c, of c, the length of the sums
  MatmulSizes(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b, const Tensor& c);
};

#ifdef SEMIVOX_CUDA
namespace cublas {
/// The same for f32 matrices on the GPU, in f32 without TF32.
void matmul(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b, double alpha, double beta,
            Tensor& c);
}  // namespace cublas
#endif

}  // namespace semivox::kernels
