#include "layers/resize.hpp"

namespace semivox {

Variable max_pool(const Variable& x, kernels::Grid grid) {
  const Variable input = x.for_backward();
  return Variable::result(
      kernels::max_pool(x.value(), grid), {x}, false,
      [=](const Tensor& dy) { input.add_gradient(kernels::max_pool_backward(input.value(), dy, grid)); },
      [=] { return kernels::max_pool(input.value(), grid); });
}

Variable global_average(const Variable& x) {
  return Variable::result(kernels::global_average(x.value()), {x}, false,
                          [x = x.for_backward()](const Tensor& dy) {
                            x.add_gradient(kernels::global_average_backward(dy, x.shape()));
                          });
}

Variable resize(const Variable& x, const std::array<int64_t, 3>& size, kernels::Interpolation interpolation) {
  const std::array<int64_t, 3> from{x.shape().d, x.shape().h, x.shape().w};
  if (from == size) return x;
  const Variable input = x.for_backward();
  return Variable::result(
      kernels::resize(x.value(), size, interpolation), {x}, false,
      [=](const Tensor& dy) { input.add_gradient(kernels::resize_backward(dy, from, interpolation)); },
      [=] { return kernels::resize(input.value(), size, interpolation); });
}

Variable upsample(const Variable& x, int64_t factor, kernels::Interpolation interpolation,
                  kernels::Grid grid) {
  const Shape s = x.shape();
  const int64_t depth = grid == kernels::Grid::volume ? factor * s.d : s.d;
  return resize(x, {depth, factor * s.h, factor * s.w}, interpolation);
}

}  // namespace semivox
