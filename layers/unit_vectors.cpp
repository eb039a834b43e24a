#include "layers/unit_vectors.hpp"

#include "kernels/unit_vectors.hpp"

namespace semivox {

Variable unit_vectors(const Variable& x) {
  const DType dtype = x.value().dtype();
  Tensor squares;
  const Tensor y = kernels::unit_vectors(x.value(), squares);
  return Variable::result(y, {x}, false, [=, x = x.for_backward()](const Tensor& dy) {
    x.add_gradient(kernels::unit_vectors_backward(y, squares, dy, dtype));
  });
}

}  // namespace semivox
