#include "kernels/matmul.hpp"

#define EIGEN_DONT_PARALLELIZE  // the threads are ours: fixed blocks of rows
#include <Eigen/Core>
#include <algorithm>
#include <dnnl.hpp>

#include "engine/parallel.hpp"
#include "engine/profile.hpp"

namespace semivox::kernels {

namespace {

/// Rows of c that one thread computes at a time.
constexpr int64_t kRows = 128;

/// f32: oneDNN's sgemm. It takes all threads, and sums in another order for each number of them, unless it is
/// called inside of a parallel region; so there are always at least two blocks.
void multiply_f32(const MatmulSizes& sizes, const Tensor& a, bool transpose_a, const Tensor& b,
                  bool transpose_b, float alpha, float beta, Tensor& c) {
  const float* left = a.data<float>();   // (rows, inner) or (inner, rows)
  const float* right = b.data<float>();  // (inner, columns) or (columns, inner)
  float* product = c.data<float>();      // (rows, columns)
  const int64_t left_stride = a.shape().c, right_stride = b.shape().c;
  const int64_t block = std::min(kRows, (sizes.rows + 1) / 2);
  const int64_t blocks = std::max<int64_t>((sizes.rows + block - 1) / block, 2);
  parallel_blocks(blocks, 1, [&](int64_t index, int64_t) {
    const int64_t begin = index * block, rows = std::min(block, sizes.rows - begin);
    if (rows <= 0) return;
    dnnl::sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', rows, sizes.columns, sizes.inner, alpha,
                left + begin * (transpose_a ? 1 : left_stride), left_stride, right, right_stride, beta,
                product + begin * sizes.columns, sizes.columns);
  });
}

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// op(tensor), copied.
Matrix as_matrix(const Tensor& tensor, bool transpose) {
  const Eigen::Map<const Matrix> matrix(tensor.data<double>(), tensor.shape().rows(), tensor.shape().c);
  if (transpose) return matrix.transpose();
  return matrix;
}

/// f64, for oracles: one product of plain matrices, so that Eigen's templates are compiled once.
void multiply_f64(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b, double alpha,
                  double beta, Tensor& c_tensor) {
  const Matrix left = as_matrix(a, transpose_a), right = as_matrix(b, transpose_b);
  Eigen::Map<Matrix> c(c_tensor.data<double>(), c_tensor.shape().rows(), c_tensor.shape().c);
  parallel_blocks(c.rows(), kRows, [&](int64_t begin, int64_t end) {
    auto rows = c.middleRows(begin, end - begin);
    if (beta == 0) {
      rows.setZero();
    } else if (beta != 1) {
      rows *= beta;
    }
    rows.noalias() += alpha * left.middleRows(begin, end - begin) * right;
  });
}

}  // namespace

void matmul(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b, double alpha, double beta,
            Tensor& c) {
  const MatmulSizes sizes(a, transpose_a, b, transpose_b, c);
  const Range range("matmul", c.device());
#ifdef SEMIVOX_CUDA
  if (c.device().is_cuda()) return cublas::matmul(a, transpose_a, b, transpose_b, alpha, beta, c);
#endif
  SEMIVOX_CHECK(!c.device().is_cuda(), "built without CUDA");
  if (c.dtype() == DType::f64) return multiply_f64(a, transpose_a, b, transpose_b, alpha, beta, c);
  multiply_f32(sizes, a, transpose_a, b, transpose_b, static_cast<float>(alpha), static_cast<float>(beta), c);
}

}  // namespace semivox::kernels
