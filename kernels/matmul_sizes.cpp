#include "kernels/matmul.hpp"

namespace semivox::kernels {

MatmulSizes::MatmulSizes(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b,
                         const Tensor& c)
    : rows(c.shape().rows()), columns(c.shape().c), inner(transpose_a ? a.shape().rows() : a.shape().c) {
  const bool fits_a = (transpose_a ? a.shape().c : a.shape().rows()) == rows;
  const bool fits_b = (transpose_b ? b.shape().c : b.shape().rows()) == inner &&
                      (transpose_b ? b.shape().rows() : b.shape().c) == columns;
  SEMIVOX_CHECK(fits_a && fits_b, "product of ", a.shape().str(), transpose_a ? " transposed" : "", " and ",
                b.shape().str(), transpose_b ? " transposed" : "", " into ", c.shape().str());
  SEMIVOX_CHECK(a.dtype() == c.dtype() && b.dtype() == c.dtype(), name_of(a.dtype()), " times ",
                name_of(b.dtype()), " into ", name_of(c.dtype()));
  SEMIVOX_CHECK(a.device() == c.device() && b.device() == c.device(), a.device().name(), " times ",
                b.device().name(), " into ", c.device().name());
}

Tensor rows_of(const Tensor& matrix, int64_t first, int64_t count) {
  const int64_t columns = matrix.shape().c;
  SEMIVOX_CHECK(first >= 0 && count >= 0 && first + count <= matrix.shape().rows(), "rows ", first, " + ",
                count, " of ", matrix.shape().str());
  return matrix.slice(first * columns, count * columns).reshaped({1, columns, 1, 1, count});
}

}  // namespace semivox::kernels
