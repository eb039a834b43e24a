// The products of matrices of the emulated build, in place of kernels/matmul.cpp and the libraries behind it:
// one thread per element.
#include "engine/launch.hpp"
#include "kernels/matmul.hpp"

namespace semivox::kernels {

namespace {

struct Element {
  const float* a;
  const float* b;
  float* c;                                   // (rows, columns)
  int64_t a_row, a_inner, b_column, b_inner;  // strides
  int64_t columns, inner;
  float alpha, beta;
  SEMIVOX_HD void operator()(int64_t index) const {
    const int64_t i = index / columns, j = index % columns;
    double sum = 0;
    for (int64_t k = 0; k < inner; ++k) {
      sum += static_cast<double>(a[i * a_row + k * a_inner]) *
             static_cast<double>(b[j * b_column + k * b_inner]);
    }
    const float product = alpha * static_cast<float>(sum);
    c[index] = beta == 0.0f ? product : product + beta * c[index];
  }
};

}  // namespace

void matmul(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b, double alpha, double beta,
            Tensor& c) {
  const MatmulSizes sizes(a, transpose_a, b, transpose_b, c);
  const int64_t a_columns = a.shape().c, b_columns = b.shape().c;
  map(c.device(), "matmul", c.elements(),
      Element{a.data<float>(), b.data<float>(), c.data<float>(), transpose_a ? 1 : a_columns,
              transpose_a ? a_columns : 1, transpose_b ? b_columns : 1, transpose_b ? 1 : b_columns,
              sizes.columns, sizes.inner, static_cast<float>(alpha), static_cast<float>(beta)});
}

}  // namespace semivox::kernels
