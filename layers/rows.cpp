#include "layers/rows.hpp"

#include "kernels/rows.hpp"

namespace semivox {

Variable take_rows(const Variable& x, const Tensor& rows) {
  const Variable input = x.for_backward();
  return Variable::result(kernels::gather_rows(x.value(), rows), {x}, false, [=](const Tensor& gradient) {
    input.add_gradient(kernels::scatter_rows(gradient, rows, input.shape()));
  });
}

}  // namespace semivox
