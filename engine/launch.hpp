// The drivers that run a functor over data: one source for the CPU and the GPU.
//
// A kernel is a named struct with a `SEMIVOX_HD` call operator. `map` runs it over indices, `sum_samples`
// adds up K values per sample, deterministically and independently of the number of threads. In a CUDA build
// the files that use these drivers are compiled by nvcc; in a CPU build the same files are plain C++.
// Block-wide reductions and synchronisation live in the drivers (here, kernels/channels.hpp and
// kernels/channel_packs.hpp) and nowhere else, so that the formulas tested on the CPU run on the GPU.
//
// A functor may have a second form for the CPU, `host_block`, which is called for a range of indices or
// voxels instead: the same arithmetic in an order that compilers make vectors of.
#pragma once

#include <cstdint>

#include "engine/cuda_runtime.hpp"
#include "engine/parallel.hpp"
#include "engine/profile.hpp"
#include "engine/tensor.hpp"

namespace semivox::kernels {

/// Indices per CPU block of `map`.
constexpr int64_t kMapBlock = 8192;

/// Voxels that one block of `sum_samples` adds up, on CPU and GPU.
constexpr int64_t kSumBlock = 4096;

/// Functors for f64, which is the CPU's oracle type, say `static constexpr bool kHostOnly = true`: nvcc then
/// makes no device code of them, which is half of what it would have to compile.
template <class F>
constexpr bool on_device() {
  if constexpr (requires { F::kHostOnly; }) {
    return !F::kHostOnly;
  } else {
    return true;
  }
}

#ifdef __CUDACC__

constexpr int kThreads = 256;

// Functors are __grid_constant__: they are read where the launch put them. A plain argument of which an array
// is indexed at run time would be copied to every thread's stack.
template <class F>
__global__ void __launch_bounds__(kThreads) map_kernel(int64_t n, const __grid_constant__ F f) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < n; i += stride) f(i);
}

/// Adds `value` over the threads of a block in a fixed order; the result is valid in thread 0.
__device__ inline double block_sum(double value) {
  SEMIVOX_SHARED(double) warp_sums[kThreads / 32];
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_down_sync(0xffffffffu, value, offset);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  __syncthreads();  // the previous use of warp_sums is over
  if (lane == 0) warp_sums[warp] = value;
  __syncthreads();
  value = threadIdx.x < kThreads / 32 ? warp_sums[threadIdx.x] : 0.0;
  if (warp == 0) {
    for (int offset = kThreads / 64; offset > 0; offset /= 2)
      value += __shfl_down_sync(0xffffffffu, value, offset);
  }
  return value;
}

template <int K, class F>
__global__ void __launch_bounds__(kThreads)
    sum_partials_kernel(int64_t voxels, int64_t blocks, const __grid_constant__ F f,
                        double* partials /* (samples, blocks, K) */) {
  const int64_t sample = blockIdx.x / blocks, block = blockIdx.x % blocks;
  const int64_t begin = block * kSumBlock;
  const int64_t end = begin + kSumBlock < voxels ? begin + kSumBlock : voxels;
  double sums[K] = {};
  for (int64_t v = begin + threadIdx.x; v < end; v += kThreads) f(sample, v, sums);
  SEMIVOX_UNROLL
  for (int k = 0; k < K; ++k) {
    const double total = block_sum(sums[k]);
    if (threadIdx.x == 0) partials[static_cast<int64_t>(blockIdx.x) * K + k] = total;
  }
}

#endif  // __CUDACC__

/// Adds the partial sums of every (sample, k) in an order that depends on `blocks` alone: the second stage of
/// `sum_samples`.
/// `partials` (samples, blocks, terms) and `sums` (samples, terms) lie on `device`.
void combine_partials(Device device, int64_t samples, int64_t blocks, int64_t terms, const double* partials,
                      double* sums);

/// Calls `f(i)` for i = 0 ... n-1, in any order. `f` is copied to the device; pointers in it must live there.
template <class F>
void map(Device device, const char* name, int64_t n, const F& f) {
  const Range range(name, device);
  if (n <= 0) return;
#ifdef __CUDACC__
  if constexpr (on_device<F>()) {
    if (device.is_cuda()) {
      cuda::use(device.index);
      const int64_t blocks = (n + kThreads - 1) / kThreads;
      const dim3 grid(static_cast<unsigned>(blocks < 65536 ? blocks : 65536));
      int64_t count = n;
      F functor = f;
      void* arguments[] = {&count, &functor};
      SEMIVOX_CUDA_CALL(
          cudaLaunchKernel(map_kernel<F>, grid, dim3(kThreads), arguments, 0, cuda::stream(device.index)));
      return;
    }
  }
#endif
  require_host(device, name);
  parallel_blocks(n, kMapBlock, [&](int64_t begin, int64_t end) {
    const F functor = f;  // a local copy cannot overlap what it writes to, so that loops become vectors
    if constexpr (requires { functor.host_block(begin, end); }) {
      functor.host_block(begin, end);
    } else {
      for (int64_t i = begin; i < end; ++i) functor(i);
    }
  });
}

/// For every sample adds K values over its voxels: `f(sample, voxel, double* sums)` adds to sums[0 ... K-1].
/// `sums` (samples, K) lies on `device`. Fixed blocks, added in order: the same bits for any number of
/// threads.
template <int K, class F>
void sum_samples(Device device, const char* name, int64_t samples, int64_t voxels, const F& f, double* sums) {
  const Range range(name, device);
  if (samples <= 0) return;
  const int64_t blocks = voxels > 0 ? (voxels + kSumBlock - 1) / kSumBlock : 1;
  const Tensor partials_tensor =
      Tensor::empty({1, samples * blocks * K, 1, 1, 1}, DType::f64, device, MemoryTag::workspace);
  double* partials = partials_tensor.data<double>();  // (samples, blocks, K)
#ifdef __CUDACC__
  if constexpr (on_device<F>()) {
    if (device.is_cuda()) {
      cuda::use(device.index);
      int64_t voxel_count = voxels, block_count = blocks;
      F functor = f;
      void* arguments[] = {&voxel_count, &block_count, &functor, &partials};
      SEMIVOX_CUDA_CALL(cudaLaunchKernel(sum_partials_kernel<K, F>,
                                         dim3(static_cast<unsigned>(samples * blocks)), dim3(kThreads),
                                         arguments, 0, cuda::stream(device.index)));
      combine_partials(device, samples, blocks, K, partials, sums);
      return;
    }
  }
#endif
  require_host(device, name);
  parallel_blocks(samples * blocks, 1, [&](int64_t index, int64_t) {
    const int64_t sample = index / blocks, begin = index % blocks * kSumBlock;
    const int64_t end = begin + kSumBlock < voxels ? begin + kSumBlock : voxels;
    double local[K] = {};
    const F functor = f;
    if constexpr (requires { functor.host_block(sample, begin, end, local); }) {
      functor.host_block(sample, begin, end, local);
    } else {
      for (int64_t v = begin; v < end; ++v) functor(sample, v, local);
    }
    for (int k = 0; k < K; ++k) partials[index * K + k] = local[k];
  });
  combine_partials(device, samples, blocks, K, partials, sums);
}

}  // namespace semivox::kernels
