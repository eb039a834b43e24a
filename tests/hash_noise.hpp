// Numbers by formula, the same in these tests and in the scripts that made the reference numbers.
#pragma once

#include <cstdint>

#include "engine/tensor.hpp"

namespace semivox::testing {

/// u(i, p) in [-1, 1): a 32-bit integer hash.
inline double hash_noise(int64_t i, int64_t p) {
  const uint32_t s =
      (static_cast<uint32_t>(i) + 1) * 747796405u + (static_cast<uint32_t>(p) + 1) * 2891336453u;
  const uint32_t w = ((s >> ((s >> 28) + 4)) ^ s) * 277803737u;
  return 2.0 * ((w >> 22) ^ w) / 4294967296.0 - 1.0;
}

/// Where element (n, c, voxel v) given by the flat index `i` of an (N, C, D, H, W) array lies in our memory.
inline int64_t channels_last(const Shape& shape, int64_t i) {
  const int64_t voxels = shape.voxels();
  const int64_t v = i % voxels, c = i / voxels % shape.c, n = i / voxels / shape.c;
  return (n * voxels + v) * shape.c + c;
}

/// Tensor on the CPU whose element at flat (N, C, D, H, W) index i is f(i).
template <class T, class F>
Tensor by_formula(const Shape& shape, const F& f) {
  Tensor t = Tensor::empty(shape, dtype_of<T>(), {});
  for (int64_t i = 0; i < t.elements(); ++i) t.data<T>()[channels_last(shape, i)] = static_cast<T>(f(i));
  return t;
}

}  // namespace semivox::testing
