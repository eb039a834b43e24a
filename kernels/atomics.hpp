// Atomic operations on 32-bit integers that mean the same on the CPU and the GPU: relaxed order, old value
// returned.
#pragma once

#include <cstdint>

#include "engine/hd.hpp"

namespace semivox::kernels {

SEMIVOX_HD inline int32_t atomic_load(const int32_t* address) {
#ifdef __CUDA_ARCH__
  return *static_cast<const volatile int32_t*>(address);
#else
  return __atomic_load_n(address, __ATOMIC_RELAXED);
#endif
}

SEMIVOX_HD inline int32_t atomic_add(int32_t* address, int32_t value) {
#ifdef __CUDA_ARCH__
  return atomicAdd(address, value);
#else
  return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
#endif
}

SEMIVOX_HD inline int32_t atomic_min(int32_t* address, int32_t value) {
#ifdef __CUDA_ARCH__
  return atomicMin(address, value);
#else
  int32_t old = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (value < old &&
         !__atomic_compare_exchange_n(address, &old, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return old;
#endif
}

SEMIVOX_HD inline int32_t atomic_max(int32_t* address, int32_t value) {
#ifdef __CUDA_ARCH__
  return atomicMax(address, value);
#else
  int32_t old = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (value > old &&
         !__atomic_compare_exchange_n(address, &old, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return old;
#endif
}

}  // namespace semivox::kernels
