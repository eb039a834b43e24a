// Small tables on their way to a kernel.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// The numbers on the device, as (1, n, 1, 1, 1) i32.
inline Tensor upload_table(const std::vector<int32_t>& numbers, Device device) {
  const Tensor tensor = Tensor::empty({1, static_cast<int64_t>(numbers.size()), 1, 1, 1}, DType::i32, device,
                                      MemoryTag::workspace);
  copy_bytes(tensor.raw(), device, numbers.data(), Device{}, numbers.size() * sizeof(int32_t));
  return tensor;
}

}  // namespace semivox::kernels
