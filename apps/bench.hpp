// `semivox bench`: how fast this machine runs a training step, each convolution, each kernel.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/profile.hpp"
#include "engine/tensor.hpp"
#include "layers/network.hpp"

namespace semivox {

struct BenchOptions {
  NetworkOptions network;
  std::array<int64_t, 3> patch{112, 112, 80};
  int64_t batch = 2;
  int64_t iterations = 5;  ///< timed ones; one more goes before them
  DType precision = DType::f32;
  Device device;
  std::string method;    ///< `step`: time whole iterations of this method instead of a supervised step
  bool profile = false;  ///< `step`: one more iteration with the per-op timer table

  Shape shape(int64_t channels) const { return {batch, channels, patch[0], patch[1], patch[2]}; }
};

/// Times forward, backward and update of supervised training (CE + Dice, SGD), or whole iterations of a
/// method's last phase; prints medians and the peak memory by tag and returns them as JSON.
nlohmann::ordered_json bench_step(const BenchOptions& options);

/// Times forward, backward-data and backward-weights of every convolution shape of the V-Net and prints
/// milliseconds and GFLOP/s.
nlohmann::ordered_json bench_layers(const BenchOptions& options);

/// Times our own kernels at the size of the V-Net's first level and prints GB/s, and the share of what a copy
/// on the same device reaches in the same run.
nlohmann::ordered_json bench_kernels(const BenchOptions& options);

/// Middle value; mean of the two middle ones of an even number.
inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

/// Median seconds of `work()` over `iterations` runs after one untimed run; waits for the device.
template <class F>
double median_seconds(Device device, int64_t iterations, const F& work) {
  std::vector<double> seconds;
  for (int64_t i = 0; i <= iterations; ++i) {
    synchronize(device);
    const double start = now_seconds();
    work();
    synchronize(device);
    if (i > 0) seconds.push_back(now_seconds() - start);
  }
  return median(std::move(seconds));
}

/// An f32 or bf16 tensor of numbers between -1 and 1 that depend on `seed`.
Tensor random_tensor(Shape shape, DType dtype, Device device, uint64_t seed);

/// A u8 tensor (N, 1, D, H, W): an ellipsoid of ones in the middle.
Tensor ellipsoid_labels(Shape shape, Device device);

}  // namespace semivox
