// 512-bit vectors of channels for the CPU kernels: f32 in registers, f32 or bf16 in memory.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "engine/bf16.hpp"
#include "kernels/conv_amx.hpp"

namespace semivox::kernels::avx512 {

#define SEMIVOX_AVX512 __attribute__((target("avx512f")))
#define SEMIVOX_AVX512_BF16 __attribute__((target("avx512f,avx512bf16")))

/// Whether this processor has 512-bit vectors.
inline bool available() { return __builtin_cpu_supports("avx512f") > 0; }

/// Whether it has bf16 dot products, and no matrix tiles, which would be faster.
inline bool has_dot_products() {
  static const bool found = available() && __builtin_cpu_supports("avx512bf16") > 0 && !amx::available();
  return found;
}

/// `Lanes` channels, 8 or 16.
template <int Lanes>
struct Types {
  typedef float Vector __attribute__((vector_size(4 * Lanes), aligned(4), may_alias));
  typedef uint32_t Words __attribute__((vector_size(4 * Lanes), aligned(4), may_alias));
  typedef uint16_t Halves __attribute__((vector_size(2 * Lanes)));
};
template <int Lanes>
using Vector = typename Types<Lanes>::Vector;

template <int Lanes>
SEMIVOX_AVX512 inline Vector<Lanes> load(const float* p) {
  return *reinterpret_cast<const Vector<Lanes>*>(p);
}

template <int Lanes>
SEMIVOX_AVX512 inline Vector<Lanes> load(const bf16* p) {
  using Words = typename Types<Lanes>::Words;
  typename Types<Lanes>::Halves halves;
  std::memcpy(&halves, p, sizeof halves);
  const Words words = __builtin_convertvector(halves, Words) << 16;
  return (Vector<Lanes>)words;  // the same bits
}

template <int Lanes>
SEMIVOX_AVX512 inline void store(float* p, Vector<Lanes> v) {
  *reinterpret_cast<Vector<Lanes>*>(p) = v;
}

/// Rounds as bf16's constructor does; the bits stand in the lower halves.
template <int Lanes>
SEMIVOX_AVX512 inline typename Types<Lanes>::Words rounded(Vector<Lanes> v) {
  using Words = typename Types<Lanes>::Words;
  const Words words = (Words)v;  // the same bits
  const Words nearest = (words + 0x7fffu + ((words >> 16) & 1u)) >> 16;
  const Words not_a_number = (words >> 16) | 0x40u;
  return (words & 0x7fffffffu) > 0x7f800000u ? not_a_number : nearest;
}

template <int Lanes>
SEMIVOX_AVX512 inline void store(bf16* p, Vector<Lanes> v) {
  const auto halves = __builtin_convertvector(rounded<Lanes>(v), typename Types<Lanes>::Halves);
  std::memcpy(static_cast<void*>(p), &halves, sizeof halves);
}

/// Operands of the bf16 dot product: 16 pairs, or one pair for all lanes.
SEMIVOX_AVX512_BF16 inline __m512bh load_pairs(const bf16* pairs) {
  return (__m512bh)_mm512_loadu_si512(pairs);
}
SEMIVOX_AVX512_BF16 inline __m512bh broadcast_pair(const bf16* pair) {
  int32_t bits;
  std::memcpy(&bits, pair, sizeof bits);
  return (__m512bh)_mm512_set1_epi32(bits);
}

}  // namespace semivox::kernels::avx512
