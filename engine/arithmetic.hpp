// In-place arithmetic on whole tensors, used by the tape and by the optimisers.
#pragma once

#include "engine/step_value.hpp"
#include "engine/tensor.hpp"

namespace semivox {

/// target += source, element by element; same shape, dtype and device.
void add_in_place(Tensor& target, const Tensor& source);

/// A new tensor a + factor * b; same shape, dtype and device.
Tensor add_scaled(const Tensor& a, const Tensor& b, StepNumber factor);

/// A copy in another floating-point dtype; the tensor itself when it has that one.
Tensor cast(const Tensor& source, DType dtype);

/// Sets every element to `value`.
void fill(Tensor& target, double value);

}  // namespace semivox
