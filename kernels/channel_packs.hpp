// Drivers for the hottest passes over feature maps, those of the normalisation blocks: on a GPU a thread
// takes 16 bytes of neighbouring channels in one access, and keeps the constants of its channels in
// registers.
//
// A functor says what it needs of a channel, once, and what it does with elements:
//
//   using element = T;                                         // what the feature maps hold
//   Channel channel(int64_t sample, int64_t c) const;          // the channel's constants
//   template <int W> void apply(const Channel (&channels)[W], int64_t i) const;       // map_channel_packs
//   template <int W> void add(const Channel (&channels)[W], int64_t i,
//                             double (&sums)[K][W]) const;     // sum_channel_packs<K>
//
// with i the index of the first of W elements, a multiple of W. Where packs do not fit (on the CPU, whose
// compiler makes vectors of its own, and for channel counts like 3) W is 1, by way of kernels/channels.hpp.
// On the CPU the loops over 8, 16 and 32 channels, those of the largest feature maps, are compiled apart: a
// loop of unknown length starts with vectors of 32 or more elements, and does shorter ones in its slow rest.
#pragma once

#include <type_traits>

#include "engine/pack.hpp"
#include "kernels/channels.hpp"

namespace semivox::kernels {

/// A channel functor as `map_channels` and `sum_channels` take them, element by element.
template <int K, class F, class Count = int64_t>
struct OneByOne {
  static constexpr bool kHostOnly = !on_device<F>();
  F f;
  Count channels;
  SEMIVOX_HD void operator()(int64_t sample, int64_t row, int64_t c) const {
    const typename F::Channel one[1] = {f.channel(sample, c)};
    f.template apply<1>(one, row * channels + c);
  }
  SEMIVOX_HD void operator()(int64_t sample, int64_t row, int64_t c, double (&terms)[K]) const {
    const typename F::Channel one[1] = {f.channel(sample, c)};
    double sums[K][1] = {};
    f.template add<1>(one, row * channels + c, sums);
    for (int k = 0; k < K; ++k) terms[k] = sums[k][0];
  }
};

/// Calls `f(count)` with the number of channels, as a constant if it is 8, 16 or 32.
template <class F>
void with_channel_count(int64_t channels, const F& f) {
  switch (channels) {
    case 8:
      return f(std::integral_constant<int64_t, 8>());
    case 16:
      return f(std::integral_constant<int64_t, 16>());
    case 32:
      return f(std::integral_constant<int64_t, 32>());
    default:
      return f(channels);
  }
}

#ifdef __CUDACC__

/// Blocks of a whole launch of `map_channel_packs`: about two for every place on a large GPU, so that a
/// thread has several packs to use its constants for.
constexpr int64_t kPackBlocks = 2048;

template <int W, class F>
__global__ void __launch_bounds__(kThreads)
    map_channel_packs_kernel(int64_t voxels, int64_t channels, const __grid_constant__ F f) {
  const int64_t packs = channels / W, count = voxels * packs, sample = blockIdx.y;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const bool same_channels = stride % packs == 0;  // in every turn of the loop
  typename F::Channel constants[W];
  for (bool fresh = true; i < count; i += stride, fresh = !same_channels) {
    if (fresh) {
      SEMIVOX_UNROLL
      for (int w = 0; w < W; ++w) constants[w] = f.channel(sample, i % packs * W + w);
    }
    f.template apply<W>(constants, (sample * count + i) * W);
  }
}

/// True when the threads of a warp can share out the channels of a row evenly.
inline bool packs_fit_warp(int64_t channels, int64_t width) {
  const int64_t packs = channels / width;
  return channels % width == 0 && packs >= 1 && packs <= 32 && 32 % packs == 0;
}

template <int K, int W, class F>
__global__ void __launch_bounds__(kThreads)
    sum_channel_packs_kernel(int64_t voxels, int64_t block_rows, int64_t blocks, int64_t channels,
                             const __grid_constant__ F f,
                             double* partials /* (samples, blocks, K, channels) */) {
  constexpr int kWarps = kThreads / 32;
  SEMIVOX_SHARED(double) warp_sums[kWarps * 32 * W];  // (warps, channels)
  const int64_t sample = blockIdx.x / blocks, block = blockIdx.x % blocks;
  const int64_t begin = block * block_rows;
  const int64_t end = begin + block_rows < voxels ? begin + block_rows : voxels;
  const int packs = static_cast<int>(channels) / W;  // 1, 2, 4, ... 32
  const int pack = threadIdx.x % packs, lanes = kThreads / packs;
  typename F::Channel constants[W];
  SEMIVOX_UNROLL
  for (int w = 0; w < W; ++w) constants[w] = f.channel(sample, pack * W + w);
  double sums[K][W] = {};
  for (int64_t v = begin + threadIdx.x / packs; v < end; v += lanes)
    f.template add<W>(constants, ((sample * voxels + v) * packs + pack) * W, sums);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  SEMIVOX_UNROLL
  for (int k = 0; k < K; ++k) {
    __syncthreads();  // the previous use of warp_sums is over
    SEMIVOX_UNROLL
    for (int w = 0; w < W; ++w) {
      // Threads whose numbers are equal modulo `packs` hold the same channels.
      double sum = sums[k][w];
      for (int offset = 16; offset >= packs; offset /= 2) sum += __shfl_down_sync(0xffffffffu, sum, offset);
      if (lane < packs) warp_sums[(warp * packs + lane) * W + w] = sum;
    }
    __syncthreads();
    for (int c = threadIdx.x; c < packs * W; c += kThreads) {
      double total = 0;
      for (int i = 0; i < kWarps; ++i) total += warp_sums[i * packs * W + c];
      partials[(static_cast<int64_t>(blockIdx.x) * K + k) * channels + c] = total;
    }
  }
}

#endif  // __CUDACC__

/// Applies `f` to every element of feature maps (samples, voxels, channels).
template <class F>
void map_channel_packs(Device device, const char* name, int64_t samples, int64_t voxels, int64_t channels,
                       const F& f) {
#ifdef __CUDACC__
  if constexpr (on_device<F>()) {
    constexpr int W = kPackWidth<typename F::element>;
    if (device.is_cuda() && channels % W == 0 && samples * voxels * channels > 0) {
      const Range range(name, device);
      cuda::use(device.index);
      const int64_t needed = (voxels * (channels / W) + kThreads - 1) / kThreads;
      const int64_t share = (kPackBlocks + samples - 1) / samples;
      const dim3 grid(static_cast<unsigned>(needed < share ? needed : share), static_cast<unsigned>(samples));
      int64_t voxel_count = voxels, channel_count = channels;
      F functor = f;
      void* arguments[] = {&voxel_count, &channel_count, &functor};
      SEMIVOX_CUDA_CALL(cudaLaunchKernel(map_channel_packs_kernel<W, F>, grid, dim3(kThreads), arguments, 0,
                                         cuda::stream(device.index)));
      return;
    }
  }
#endif
  if (device.is_cuda()) {
    map_channels(device, name, samples, voxels, channels, OneByOne<1, F>{f, channels});
    return;
  }
  const Range range(name, device);
  with_channel_count(channels, [&](auto count) {
    map_channels_on_host(samples, voxels, count, OneByOne<1, F, decltype(count)>{f, count});
  });
}

/// For every sample and channel adds K values over the voxels, deterministically. `sums` (samples, K,
/// channels) lies on `device`.
template <int K, class F>
void sum_channel_packs(Device device, const char* name, int64_t samples, int64_t voxels, int64_t channels,
                       const F& f, double* sums) {
#ifdef __CUDACC__
  if constexpr (on_device<F>()) {
    constexpr int W = kPackWidth<typename F::element>;
    if (device.is_cuda() && packs_fit_warp(channels, W) && samples > 0) {
      const Range range(name, device);
      cuda::use(device.index);
      int64_t block_rows = rows_per_block(samples * voxels, kThreads / (channels / W));
      int64_t blocks = voxels > 0 ? (voxels + block_rows - 1) / block_rows : 1;
      const Tensor partials_tensor = Tensor::empty({1, samples * blocks * K * channels, 1, 1, 1}, DType::f64,
                                                   device, MemoryTag::workspace);
      double* partials = partials_tensor.data<double>();  // (samples, blocks, K, channels)
      int64_t voxel_count = voxels, channel_count = channels;
      F functor = f;
      void* arguments[] = {&voxel_count, &block_rows, &blocks, &channel_count, &functor, &partials};
      SEMIVOX_CUDA_CALL(cudaLaunchKernel(sum_channel_packs_kernel<K, W, F>,
                                         dim3(static_cast<unsigned>(samples * blocks)), dim3(kThreads),
                                         arguments, 0, cuda::stream(device.index)));
      combine_partials(device, samples, blocks, K * channels, partials, sums);
      return;
    }
  }
#endif
  if (device.is_cuda()) {
    sum_channels<K>(device, name, samples, voxels, channels, OneByOne<K, F>{f, channels}, sums);
    return;
  }
  const Range range(name, device);
  with_channel_count(channels, [&](auto count) {
    sum_channels_on_host<K>(samples, voxels, count, OneByOne<K, F, decltype(count)>{f, count}, sums);
  });
}

}  // namespace semivox::kernels
