// The k-th smallest of millions of numbers on the device, without sorting them.
#pragma once

#include <cstdint>

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// Element number `rank` (from 0) in ascending order of those values[i] whose labels[i] is `label`. values
/// f32 without NaNs, labels u8, equally many, fewer than 2^31; `rank` less than how many have the label.
float order_statistic(const Tensor& values, const Tensor& labels, int label, int64_t rank);

}  // namespace semivox::kernels
