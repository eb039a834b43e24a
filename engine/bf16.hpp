// bfloat16 as a storage type: the upper half of an IEEE float, rounded to nearest even. Arithmetic is done in
// float.
#pragma once

#include <cstdint>
#include <cstring>

#include "engine/hd.hpp"

namespace semivox {

struct bf16 {
  uint16_t bits = 0;

  bf16() = default;
  SEMIVOX_HD bf16(float value) {  // NOLINT: implicit, so that storing a float reads like an assignment
    uint32_t u;
    memcpy(&u, &value, sizeof u);
    const bool is_nan = (u & 0x7fffffffu) > 0x7f800000u;
    const uint32_t rounded = u + 0x7fffu + ((u >> 16) & 1u);
    bits = static_cast<uint16_t>(is_nan ? (u >> 16) | 0x40u : rounded >> 16);
  }
  SEMIVOX_HD operator float() const {  // NOLINT: implicit, a bf16 is used as a float
    const uint32_t u = static_cast<uint32_t>(bits) << 16;
    float value;
    memcpy(&value, &u, sizeof value);
    return value;
  }
};

/// The type in which values stored as T are computed with: float for f32 and bf16, double for f64.
template <class T>
struct ComputeType {
  using type = float;
};
template <>
struct ComputeType<double> {
  using type = double;
};
template <class T>
using compute_t = typename ComputeType<T>::type;

}  // namespace semivox
