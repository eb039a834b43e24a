// SEMIVOX_HD marks functions that run on the host and, in CUDA builds, on the device as well.
// SEMIVOX_SHARED(float) tile[32]; declares a variable in the shared memory of a block. SEMIVOX_UNROLL stands
// before a loop over an array that is to live in registers, for which nvcc must know every index.
#pragma once

#ifdef __CUDACC__
#define SEMIVOX_HD __host__ __device__
#ifndef SEMIVOX_SHARED  // tests/emulator has a version that checks every access
#define SEMIVOX_SHARED(type) __shared__ type
#endif
#else
#define SEMIVOX_HD
#endif

#if defined(__NVCC__) && defined(__CUDA_ARCH__)  // nvcc's pass for the device; g++ does not know the pragma
#define SEMIVOX_UNROLL _Pragma("unroll")
#else
#define SEMIVOX_UNROLL
#endif
