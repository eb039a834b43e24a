// Drivers for channels-last feature maps: `map_channels` runs a functor over every element with its channel
// at hand, `sum_channels` adds up K values per (sample, channel). See engine/launch.hpp for the idea; sums
// are deterministic.
#pragma once

#include "engine/launch.hpp"

namespace semivox::kernels {

/// Rows (voxels) that one block of `sum_channels` adds up on the CPU, and at most on a GPU.
constexpr int64_t kRowBlock = 1024;

#ifdef __CUDACC__

/// Rows for one block on a GPU, whose threads take `lanes` rows at a time: as few as give the deep, small
/// layers of a network enough blocks for a large GPU, but some for every thread. Depends on sizes alone.
inline int64_t rows_per_block(int64_t rows, int64_t lanes) {
  constexpr int64_t kBlocks = 1024;
  const int64_t fewest = 4 * lanes > 16 ? 4 * lanes : 16, share = rows / kBlocks;
  const int64_t wanted = share > fewest ? share : fewest;
  return wanted < kRowBlock ? wanted : kRowBlock;
}

template <class F>
__global__ void __launch_bounds__(kThreads)
    map_channels_kernel(int64_t rows, int64_t voxels, int64_t channels, const __grid_constant__ F f) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  const int64_t elements = rows * channels;
  int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (elements < (int64_t{1} << 31)) {  // 32-bit divisions are several times cheaper
    for (; i < elements; i += stride) {
      const uint32_t row = static_cast<uint32_t>(i) / static_cast<uint32_t>(channels);
      const uint32_t sample = row / static_cast<uint32_t>(voxels);
      f(sample, row, i - static_cast<int64_t>(row) * channels);
    }
  } else {
    for (; i < elements; i += stride) {
      const int64_t row = i / channels;
      f(row / voxels, row, i - row * channels);
    }
  }
}

template <int K, class F>
__global__ void __launch_bounds__(kThreads)
    sum_channels_kernel(int64_t voxels, int64_t block_rows, int64_t blocks, int64_t channels,
                        const __grid_constant__ F f, double* partials /* (samples, blocks, K, channels) */) {
  SEMIVOX_SHARED(double) lane_sums[kThreads];
  const int64_t sample = blockIdx.x / blocks, block = blockIdx.x % blocks;
  const int64_t begin = block * block_rows;
  const int64_t end = begin + block_rows < voxels ? begin + block_rows : voxels;
  // Threads are laid out as (lane, channel) so that neighbouring threads read neighbouring channels.
  const int64_t first = static_cast<int64_t>(blockIdx.y) * kThreads;
  const int width = static_cast<int>(channels - first < kThreads ? channels - first : kThreads);
  const int lanes = kThreads / width;
  const int lane = threadIdx.x / width, c = threadIdx.x % width;
  double sums[K] = {};
  if (lane < lanes) {
    for (int64_t v = begin + lane; v < end; v += lanes) {
      double terms[K];
      f(sample, sample * voxels + v, first + c, terms);
      for (int k = 0; k < K; ++k) sums[k] += terms[k];
    }
  }
  for (int k = 0; k < K; ++k) {
    __syncthreads();  // the previous use of lane_sums is over
    lane_sums[threadIdx.x] = sums[k];
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < width) {
      double total = 0;
      for (int l = 0; l < lanes; ++l) total += lane_sums[l * width + threadIdx.x];
      partials[(static_cast<int64_t>(blockIdx.x) * K + k) * channels + first + threadIdx.x] = total;
    }
  }
}

#endif  // __CUDACC__

/// The CPU's `map_channels`. Where the number of channels is a constant of the compiler's, it knows how long
/// its vectors can be.
template <class Count, class F>
void map_channels_on_host(int64_t samples, int64_t voxels, Count count, const F& f) {
  const int64_t blocks = (voxels + kRowBlock - 1) / kRowBlock;
  parallel_blocks(samples * blocks, 1, [&](int64_t index, int64_t) {
    const int64_t sample = index / blocks, begin = index % blocks * kRowBlock;
    const int64_t end = begin + kRowBlock < voxels ? begin + kRowBlock : voxels;
    const F functor = f;
    const int64_t channels = count;
    for (int64_t v = begin; v < end; ++v) {
      const int64_t row = sample * voxels + v;
#pragma GCC ivdep
      for (int64_t c = 0; c < channels; ++c) functor(sample, row, c);
    }
  });
}

/// The CPU's `sum_channels`.
template <int K, class Count, class F>
void sum_channels_on_host(int64_t samples, int64_t voxels, Count count, const F& f, double* sums) {
  const int64_t blocks = voxels > 0 ? (voxels + kRowBlock - 1) / kRowBlock : 1;
  const Tensor partials_tensor =
      Tensor::empty({1, samples * blocks * K * count, 1, 1, 1}, DType::f64, Device{}, MemoryTag::workspace);
  double* partials = partials_tensor.data<double>();  // (samples, blocks, K, channels)
  parallel_blocks(samples * blocks, 1, [&](int64_t index, int64_t) {
    const int64_t sample = index / blocks, begin = index % blocks * kRowBlock;
    const int64_t end = begin + kRowBlock < voxels ? begin + kRowBlock : voxels;
    const F functor = f;
    const int64_t channels = count;
    double* local = partials + index * K * channels;  // (K, channels)
    for (int64_t i = 0; i < K * channels; ++i) local[i] = 0;
    for (int64_t v = begin; v < end; ++v) {
      const int64_t row = sample * voxels + v;
#pragma GCC ivdep
      for (int64_t c = 0; c < channels; ++c) {
        double terms[K];
        functor(sample, row, c, terms);
        for (int k = 0; k < K; ++k) local[k * channels + c] += terms[k];
      }
    }
  });
  combine_partials(Device{}, samples, blocks, K * count, partials, sums);
}

/// Calls `f(sample, row, channel)` for every element; row = sample * voxels + voxel, the element's index is
/// row * channels + channel. Elements of a row must not depend on each other.
template <class F>
void map_channels(Device device, const char* name, int64_t samples, int64_t voxels, int64_t channels,
                  const F& f) {
  const Range range(name, device);
  const int64_t rows = samples * voxels;
  if (rows <= 0 || channels <= 0) return;
#ifdef __CUDACC__
  if constexpr (on_device<F>()) {
    if (device.is_cuda()) {
      cuda::use(device.index);
      const int64_t blocks = (rows * channels + kThreads - 1) / kThreads;
      int64_t row_count = rows, voxel_count = voxels, channel_count = channels;
      F functor = f;
      void* arguments[] = {&row_count, &voxel_count, &channel_count, &functor};
      SEMIVOX_CUDA_CALL(cudaLaunchKernel(map_channels_kernel<F>,
                                         dim3(static_cast<unsigned>(blocks < 65536 ? blocks : 65536)),
                                         dim3(kThreads), arguments, 0, cuda::stream(device.index)));
      return;
    }
  }
#endif
  require_host(device, name);
  map_channels_on_host(samples, voxels, channels, f);
}

/// For every sample and channel adds K values over the voxels: `f(sample, row, channel, double (&terms)[K])`
/// sets the K terms of one element. `sums` (samples, K, channels) lies on `device`.
template <int K, class F>
void sum_channels(Device device, const char* name, int64_t samples, int64_t voxels, int64_t channels,
                  const F& f, double* sums) {
  const Range range(name, device);
  if (samples <= 0 || channels <= 0) return;
#ifdef __CUDACC__
  if constexpr (on_device<F>()) {
    if (device.is_cuda()) {
      cuda::use(device.index);
      int64_t block_rows = rows_per_block(samples * voxels, channels < kThreads ? kThreads / channels : 1);
      int64_t blocks = voxels > 0 ? (voxels + block_rows - 1) / block_rows : 1;
      const Tensor partials_tensor = Tensor::empty({1, samples * blocks * K * channels, 1, 1, 1}, DType::f64,
                                                   device, MemoryTag::workspace);
      double* partials = partials_tensor.data<double>();  // (samples, blocks, K, channels)
      int64_t voxel_count = voxels, channel_count = channels;
      F functor = f;
      void* arguments[] = {&voxel_count, &block_rows, &blocks, &channel_count, &functor, &partials};
      const dim3 grid(static_cast<unsigned>(samples * blocks),
                      static_cast<unsigned>((channels + kThreads - 1) / kThreads));
      SEMIVOX_CUDA_CALL(cudaLaunchKernel(sum_channels_kernel<K, F>, grid, dim3(kThreads), arguments, 0,
                                         cuda::stream(device.index)));
      combine_partials(device, samples, blocks, K * channels, partials, sums);
      return;
    }
  }
#endif
  require_host(device, name);
  sum_channels_on_host<K>(samples, voxels, channels, f, sums);
}

}  // namespace semivox::kernels
