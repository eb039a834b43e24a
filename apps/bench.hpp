// `semivox bench`: how fast this machine runs a training step, each convolution, each kernel, and the work
// around the network.
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

/// What can be set on the command line; each benchmark looks at the settings that its `--help` lists.
struct BenchOptions {
  using Extent = std::array<int64_t, 3>;

  NetworkOptions network;
  Extent patch{112, 112, 80};
  int64_t batch = 2;
  int64_t iterations = 5;  ///< timed ones; one more goes before them
  DType precision = DType::f32;
  Device device;

  std::string filter;       ///< layers, kernels: only rows whose name contains this
  bool evaluation = false;  ///< step: a forward pass with running statistics and without gradients
  std::string method;       ///< step: whole iterations of this method instead of a supervised step
  bool graph = false;
  bool profile = false;  ///< step: one more iteration with the per-op timer table
  std::vector<Extent> patches{{64, 64, 64}, {96, 96, 96}, {112, 112, 80}, {160, 160, 160}};  ///< scaling

  Extent size{176, 148, 88};          ///< data, metrics, predict: of a scan; the mean volume of an LA case
  int64_t cases = 4;                  ///< data: how many are synthesized
  std::string data;                   ///< data: folder to read, synthetic cases when empty
  std::string prediction, reference;  ///< metrics: label maps, synthetic ones when empty
  Extent stride{18, 18, 4};           ///< predict: step between windows
  int64_t window_batch = 1;           ///< predict: windows per forward pass
  bool whole_volume = false;          ///< predict: the scan as one window

  Shape shape(int64_t channels) const { return {batch, channels, patch[0], patch[1], patch[2]}; }
};

/// What a benchmark measured: the rows of its table, flat objects with the same fields each, and whatever
/// else belongs into the JSON report.
struct BenchReport {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  nlohmann::ordered_json details = nlohmann::ordered_json::object();
};

// Each prints its table while it measures.

/// Forward, backward and update of supervised training (CE + Dice, SGD), an evaluation forward, or whole
/// iterations of a method's last phase: median seconds, peak memory by tag.
BenchReport bench_step(const BenchOptions& options);

/// An iteration of every method's last phase, each on its first network for volumes (slices when the patch
/// has one plane): seconds and peak memory, and their ratios to supervised training with the same batch.
BenchReport bench_methods(const BenchOptions& options);

/// The supervised step at several patch sizes: nanoseconds and bytes per voxel.
BenchReport bench_scaling(const BenchOptions& options);

/// Forward, backward-data and backward-weights of every convolution shape of the V-Net: milliseconds, GFLOP/s
/// and the share of what a wide convolution reaches in the same run.
BenchReport bench_layers(const BenchOptions& options);

/// Our own kernels at the size of the V-Net's first level: GB/s, and the share of what a copy on the same
/// device reaches in the same run.
BenchReport bench_kernels(const BenchOptions& options);

/// FeCL and InfoNCE on the embeddings of a patch: milliseconds of both directions, and bytes beyond the
/// operands.
BenchReport bench_contrast(const BenchOptions& options);

/// Reading and caching a data set, and drawing batches from it.
BenchReport bench_data(const BenchOptions& options);

/// Dice, Jaccard, 95HD and ASD of one case.
BenchReport bench_metrics(const BenchOptions& options);

/// Sliding-window prediction of one scan of random numbers.
BenchReport bench_predict(const BenchOptions& options);

/// Multiplications and additions of the V-Net's convolutions for a batch; the image needs no gradient.
struct Operations {
  double forward = 0, backward = 0;
};
Operations vnet_operations(const BenchOptions& options);

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
