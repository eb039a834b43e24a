// Functions of single elements: tanh and element-wise dropout, forward and backward.
#pragma once

#include "engine/random.hpp"
#include "engine/tensor.hpp"

namespace semivox::kernels {

/// tanh of every element.
Tensor tanh_forward(const Tensor& x);

/// dy (1 - y^2) with y = tanh(x).
Tensor tanh_backward(const Tensor& y, const Tensor& dy);

/// Elements are zeroed with `probability`, the others divided by 1 - probability. What happens to element i
/// (in memory order) is number i of `random`, so the gradient is the same function of the gradient.
Tensor dropout_elements(const Tensor& x, double probability, const RandomStream& random);

}  // namespace semivox::kernels
