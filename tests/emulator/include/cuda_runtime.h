// The part of CUDA that the project uses, on top of the block emulator. CMake includes this file before every
// emulated source, as nvcc does with the toolkit's file of the same name.
//
// There is no __shared__: shared variables are declared with SEMIVOX_SHARED, so that every access is checked.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "tests/emulator/emulator.hpp"

// Keywords.
#define __CUDACC__
#define __CUDA_ARCH__ 900
#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __grid_constant__
#define __forceinline__ inline
#define SEMIVOX_SHARED(type) static ::emulator::Shared<type>

// Vector types: their alignment is what makes one access of 8 or 16 bytes possible (checked by UBSan).
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

// Barriers.
inline void __syncthreads(const emulator::Where& where = emulator::Where::current()) {
  emulator::barrier(where);
}
inline void __syncwarp(unsigned mask = ~0u, const emulator::Where& where = emulator::Where::current()) {
  emulator::exchange("__syncwarp", mask, 0, emulator::lane(), where, true);
}

// Warp shuffles. `width` divides the warp into segments; a source outside the segment is the lane itself.
namespace emulator {
template <class T>
T shuffle(const char* operation, unsigned mask, T value, unsigned source, int width, const Where& where) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  const unsigned segment = lane() / static_cast<unsigned>(width);
  word = exchange(operation, mask, word,
                  source < kWarp && source / static_cast<unsigned>(width) == segment ? source : lane(), where)
             .word;
  std::memcpy(&value, &word, sizeof value);
  return value;
}
}  // namespace emulator

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              const emulator::Where& where = emulator::Where::current()) {
  const unsigned first = emulator::lane() / static_cast<unsigned>(width) * static_cast<unsigned>(width);
  return emulator::shuffle("__shfl_sync", mask, value,
                           first + static_cast<unsigned>(source) % static_cast<unsigned>(width), width,
                           where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 const emulator::Where& where = emulator::Where::current()) {
  return emulator::shuffle("__shfl_up_sync", mask, value, emulator::lane() - delta, width, where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   const emulator::Where& where = emulator::Where::current()) {
  return emulator::shuffle("__shfl_down_sync", mask, value, emulator::lane() + delta, width, where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                  const emulator::Where& where = emulator::Where::current()) {
  return emulator::shuffle("__shfl_xor_sync", mask, value, emulator::lane() ^ static_cast<unsigned>(bits),
                           width, where);
}

// Votes.
inline unsigned __ballot_sync(unsigned mask, int predicate,
                              const emulator::Where& where = emulator::Where::current()) {
  return emulator::exchange("__ballot_sync", mask, predicate != 0, emulator::lane(), where).ballot;
}
inline int __any_sync(unsigned mask, int predicate,
                      const emulator::Where& where = emulator::Where::current()) {
  return emulator::exchange("__any_sync", mask, predicate != 0, emulator::lane(), where).ballot != 0;
}
inline int __all_sync(unsigned mask, int predicate,
                      const emulator::Where& where = emulator::Where::current()) {
  return emulator::exchange("__all_sync", mask, predicate == 0, emulator::lane(), where).ballot == 0;
}

// Atomics on global memory: really atomic, since the CPU's own versions of the kernels use them as well.
template <class T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  emulator::pause();
  return std::atomic_ref<T>(*address).fetch_add(value, std::memory_order_relaxed);
}
template <class T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  emulator::pause();
  std::atomic_ref<T>(*address).compare_exchange_strong(expected, value, std::memory_order_relaxed);
  return expected;
}
template <class T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  emulator::pause();
  std::atomic_ref<T> target(*address);
  T old = target.load(std::memory_order_relaxed);
  while (value < old && !target.compare_exchange_weak(old, value, std::memory_order_relaxed)) {
  }
  return old;
}
template <class T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  emulator::pause();
  std::atomic_ref<T> target(*address);
  T old = target.load(std::memory_order_relaxed);
  while (value > old && !target.compare_exchange_weak(old, value, std::memory_order_relaxed)) {
  }
  return old;
}

// The runtime: one device, one stream; every call has ended when it returns, unless the stream is captured.
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900
};
enum cudaMemcpyKind { cudaMemcpyDefault = 4 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed = 2 };
enum { cudaStreamNonBlocking = 1 };
enum cudaDeviceAttr { cudaDevAttrPageableMemoryAccess = 88 };
using cudaStream_t = struct CUstream_st*;
using cudaGraph_t = struct CUgraph_st*;
using cudaGraphExec_t = struct CUgraphExec_st*;
struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  int major, minor;
};

cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaGetLastError();
/// Of cudaErrorLaunchFailure: what the emulator found in the last launch that failed.
const char* cudaGetErrorString(cudaError_t status);

/// Device memory: filled with bytes 0xff (NaN as a number) and out of the host's reach, except in the calls
/// below and in kernels.
cudaError_t cudaMalloc(void** block, size_t bytes);
cudaError_t cudaFree(void* block);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t);
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t);

namespace emulator {
/// While one is alive, the host can read and write device memory, too, and launches need not open and close
/// it.
struct OpenMemory {
  OpenMemory();
  ~OpenMemory();
  OpenMemory(const OpenMemory&) = delete;
  OpenMemory& operator=(const OpenMemory&) = delete;
};
}  // namespace emulator

/// Memory of the host; there is no other kind here.
cudaError_t cudaMallocHost(void** block, size_t bytes);
cudaError_t cudaFreeHost(void* block);

/// A captured stream does not run its work but keeps it, with the arguments that it had, for the graph. As in
/// CUDA it cannot be waited for.
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph,
                                          unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);

namespace emulator {
/// Runs the kernel, or keeps it while the stream is captured.
cudaError_t launch_kernel(dim3 grid, dim3 block, std::function<void()> kernel);
}  // namespace emulator

/// `arguments` points to one value for every parameter of the kernel, of which the launch takes copies.
template <class... Parameters>
cudaError_t cudaLaunchKernel(void (*kernel)(Parameters...), dim3 grid, dim3 block, void** arguments, size_t,
                             cudaStream_t) {
  return [&]<size_t... i>(std::index_sequence<i...>) {
    return emulator::launch_kernel(grid, block,
                                   [kernel, values = std::tuple(*static_cast<Parameters*>(arguments[i])...)] {
                                     std::apply(kernel, values);
                                   });
  }
  (std::index_sequence_for<Parameters...>{});
}
