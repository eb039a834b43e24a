#include "kernels/conv_pointwise.hpp"

#include "engine/arithmetic.hpp"
#include "kernels/conv_direct.hpp"
#include "kernels/matmul.hpp"

namespace semivox::kernels::pointwise {

namespace {

/// Calls `product(out)` with an f32 tensor and leaves its values in `result`.
template <class Product>
void into(Tensor& result, const Product& product) {
  if (result.dtype() == DType::f32) return product(result);
  Tensor out = Tensor::empty(result.shape(), DType::f32, result.device(), MemoryTag::workspace);
  product(out);
  direct::convert(out, result);
}

/// (Co, Ci)
Tensor as_matrix(const Tensor& weights, int64_t in_channels, int64_t out_channels) {
  return weights.reshaped({1, in_channels, 1, 1, out_channels});
}

}  // namespace

bool takes(const ConvGeometry& g) {
  constexpr std::array<int64_t, 3> one{1, 1, 1}, zero{0, 0, 0};
  return !g.transposed && g.kernel == one && g.stride == one && g.padding == zero;
}

void conv_forward(const Tensor& x, const Tensor& weights, Tensor& y) {
  const Tensor matrix = as_matrix(weights, x.shape().c, y.shape().c);
  into(y, [&](Tensor& out) { matmul(cast(x, DType::f32), false, matrix, true, 1, 0, out); });
}

void conv_backward_data(const Tensor& dy, const Tensor& weights, Tensor& dx) {
  const Tensor matrix = as_matrix(weights, dx.shape().c, dy.shape().c);
  into(dx, [&](Tensor& out) { matmul(cast(dy, DType::f32), false, matrix, false, 1, 0, out); });
}

void conv_backward_weights(const Tensor& x, const Tensor& dy, Tensor& dw) {
  Tensor matrix = as_matrix(dw, x.shape().c, dy.shape().c);
  matmul(cast(dy, DType::f32), true, cast(x, DType::f32), false, 1, 1, matrix);
}

}  // namespace semivox::kernels::pointwise
