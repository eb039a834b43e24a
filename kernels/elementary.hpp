// exp and log of a float without branches, tables or calls, so that compilers make vectors of the loops
// around them. Both are within 2 units of the last place. On the GPU they are CUDA's own.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "engine/hd.hpp"

namespace semivox {

SEMIVOX_HD inline uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

SEMIVOX_HD inline float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/// exp(x): with n the integer nearest to x / log 2, 2^n times a polynomial in r = x - n log 2, |r| <= 0.35
/// (Moshier, Cephes). Overflows to infinity, underflows through denormals to 0, and a NaN stays one.
SEMIVOX_HD inline float exponential(float x) {
#if defined(__NVCC__) && defined(__CUDA_ARCH__)
  return expf(x);
#else
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: the sum's last bit is worth 1
  x = x < -104.0f ? -104.0f : x;           // comparisons with a NaN are false
  x = x > 89.0f ? 89.0f : x;
  const float shifted = x * 1.44269504f + kRounder;
  const float n = shifted - kRounder;
  const float r =
      (x - n * 0.693359375f) - n * -2.12194440e-4f;  // log 2 in two parts: the first product is exact
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // 2^n as a product of two, so that neither leaves the range of floats before the result does.
  const int32_t exponent = static_cast<int32_t>(bits_of(shifted) - bits_of(kRounder));
  const int32_t half = exponent >> 1;
  return p * float_of(static_cast<uint32_t>(half + 127) << 23) *
         float_of(static_cast<uint32_t>(exponent - half + 127) << 23);
#endif
}

/// log(x): the exponent's share and a polynomial in m - 1 for the mantissa m, sqrt(1/2) <= m < sqrt(2)
/// (Moshier, Cephes). Of 0 it is -infinity, of less a NaN.
SEMIVOX_HD inline float logarithm(float x) {
#if defined(__NVCC__) && defined(__CUDA_ARCH__)
  return logf(x);
#else
  const bool denormal = x < 1.17549435e-38f;
  const uint32_t bits = bits_of(denormal ? x * 8388608.0f : x);             // 2^23
  const int32_t exponent = static_cast<int32_t>(bits - 0x3f3504f3u) >> 23;  // 0x3f3504f3 is sqrt(1/2)
  const float m = float_of(bits - (static_cast<uint32_t>(exponent) << 23)) - 1.0f;
  float p = 7.0376836292e-2f;
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  const float square = m * m, e = static_cast<float>(denormal ? exponent - 23 : exponent);
  float result = m + (p * m * square + e * -2.12194440e-4f - 0.5f * square) + e * 0.693359375f;
  result = x == 0.0f ? -INFINITY : result;
  result = x < 0.0f ? NAN : result;
  return x <= 3.40282347e38f ? result : x;  // infinity and NaN as they are
#endif
}

SEMIVOX_HD inline double exponential(double x) { return exp(x); }
SEMIVOX_HD inline double logarithm(double x) { return log(x); }

}  // namespace semivox
