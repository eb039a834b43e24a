#include "layers/double_conv.hpp"

#include "layers/pointwise.hpp"

namespace semivox {

Variable dropout(const Variable& x, const Pass& pass, double probability) {
  if (!pass.training || probability == 0) return x;
  SEMIVOX_CHECK(pass.random != nullptr, "a training pass with dropout needs random numbers");
  return dropout(x, probability, pass.random->next());
}

Variable DoubleConv::operator()(const Variable& x, const Pass& pass, double element_dropout,
                                double channel_dropout) const {
  return second(dropout(first(x, pass), pass, element_dropout), pass, channel_dropout);
}

}  // namespace semivox
