#include "layers/pointwise.hpp"

#include "kernels/pointwise.hpp"

namespace semivox {

Variable tanh(const Variable& x) {
  const Tensor y = kernels::tanh_forward(x.value());
  return Variable::result(y, {x}, false, [x = x.for_backward(), y](const Tensor& dy) {
    x.add_gradient(kernels::tanh_backward(y, dy));
  });
}

Variable dropout(const Variable& x, double probability, const RandomStream& random) {
  const Variable input = x.for_backward();
  return Variable::result(
      kernels::dropout_elements(x.value(), probability, random), {x}, false,
      [=](const Tensor& dy) { input.add_gradient(kernels::dropout_elements(dy, probability, random)); },
      [=] { return kernels::dropout_elements(input.value(), probability, random); });
}

}  // namespace semivox
