#include "engine/launch.hpp"

namespace semivox::kernels {

namespace {

struct CombinePartials {
  const double* partials;  // (samples, blocks, terms)
  double* sums;            // (samples, terms)
  int64_t blocks, terms;
  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t sample = i / terms, k = i % terms;
    double total = 0;
    for (int64_t b = 0; b < blocks; ++b) total += partials[(sample * blocks + b) * terms + k];
    sums[i] = total;
  }
};

#ifdef __CUDACC__

// A warp for each sum: with one thread, the time of a thousand loads in a row would be longer than the pass
// that made the partial sums.
__global__ void __launch_bounds__(kThreads)
    combine_partials_kernel(int64_t count, int64_t blocks, int64_t terms,
                            const double* partials /* (samples, blocks, terms) */,
                            double* sums /* (samples, terms) */) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  if (i >= count) return;  // the whole warp
  const int64_t sample = i / terms, k = i % terms;
  const int lane = threadIdx.x % 32;
  double total = 0;
  for (int64_t b = lane; b < blocks; b += 32) total += partials[(sample * blocks + b) * terms + k];
  for (int offset = 16; offset > 0; offset /= 2) total += __shfl_down_sync(0xffffffffu, total, offset);
  if (lane == 0) sums[i] = total;
}

#endif  // __CUDACC__

}  // namespace

void combine_partials(Device device, int64_t samples, int64_t blocks, int64_t terms, const double* partials,
                      double* sums) {
#ifdef __CUDACC__
  if (device.is_cuda()) {
    const Range range("combine_partials", device);
    cuda::use(device.index);
    int64_t count = samples * terms;
    if (count <= 0) return;
    void* arguments[] = {&count, &blocks, &terms, &partials, &sums};
    const auto grid = static_cast<unsigned>((count * 32 + kThreads - 1) / kThreads);
    SEMIVOX_CUDA_CALL(cudaLaunchKernel(combine_partials_kernel, dim3(grid), dim3(kThreads), arguments, 0,
                                       cuda::stream(device.index)));
    return;
  }
#endif
  map(device, "combine_partials", samples * terms, CombinePartials{partials, sums, blocks, terms});
}

}  // namespace semivox::kernels
