#include "kernels/matmul.hpp"

#define EIGEN_DONT_PARALLELIZE  // the threads are ours: fixed blocks of rows
#include <Eigen/Core>

#include "engine/parallel.hpp"
#include "engine/profile.hpp"

namespace semivox::kernels {

namespace {

/// Rows of c that one thread computes at a time.
constexpr int64_t kRows = 128;

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class T>
Eigen::Map<const Matrix<T>> as_matrix(const Tensor& t) {
  return {t.data<T>(), t.shape().rows(), t.shape().c};
}

template <class T>
void multiply(const Tensor& a_tensor, bool transpose_a, const Tensor& b_tensor, bool transpose_b, T alpha,
              T beta, Tensor& c_tensor) {
  const auto a = as_matrix<T>(a_tensor), b = as_matrix<T>(b_tensor);
  Eigen::Map<Matrix<T>> c(c_tensor.data<T>(), c_tensor.shape().rows(), c_tensor.shape().c);
  parallel_blocks(c.rows(), kRows, [&](int64_t begin, int64_t end) {
    auto rows = c.middleRows(begin, end - begin);
    if (beta == T(0)) {
      rows.setZero();
    } else if (beta != T(1)) {
      rows *= beta;
    }
    const auto add = [&](const auto& left) {
      if (transpose_b) {
        rows.noalias() += alpha * left * b.transpose();
      } else {
        rows.noalias() += alpha * left * b;
      }
    };
    if (transpose_a) {
      add(a.middleCols(begin, end - begin).transpose());
    } else {
      add(a.middleRows(begin, end - begin));
    }
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
  if (c.dtype() == DType::f64) return multiply<double>(a, transpose_a, b, transpose_b, alpha, beta, c);
  multiply<float>(a, transpose_a, b, transpose_b, static_cast<float>(alpha), static_cast<float>(beta), c);
}

}  // namespace semivox::kernels
