// The contrastive losses at the sizes of their papers: time, and memory beyond their operands.
#include <cstdio>

#include "apps/bench.hpp"
#include "engine/memory.hpp"
#include "kernels/fecl.hpp"
#include "layers/unit_vectors.hpp"
#include "layers/voxel_contrast.hpp"

namespace semivox {
namespace {

/// Median seconds of both directions, and the most bytes in use beyond what was there before.
struct Contrast {
  double forward, backward;
  int64_t bytes;
};

/// `loss()` makes the loss anew, from leaves that live outside.
template <class F>
Contrast measure_contrast(const BenchOptions& options, const F& loss) {
  const Device device = options.device;
  std::vector<double> forward, backward;
  int64_t bytes = 0;
  for (int64_t i = 0; i <= options.iterations; ++i) {
    reset_peak_memory(device);
    const int64_t before = memory_statistics(device).live_total;
    synchronize(device);
    const double start = now_seconds();
    const Variable value = loss();
    synchronize(device);
    const double middle = now_seconds();
    value.backward();
    synchronize(device);
    if (i == 0) continue;  // the leaves' gradients were made then
    forward.push_back(middle - start);
    backward.push_back(now_seconds() - middle);
    bytes = memory_statistics(device).peak_total - before;
  }
  return {median(forward), median(backward), bytes};
}

/// Embeddings of length 1, without a history.
Tensor embeddings(const Shape& shape, Device device, uint64_t seed) {
  const NoGrad no_grad;
  return unit_vectors(Variable(random_tensor(shape, DType::f32, device, seed))).value();
}

}  // namespace

BenchReport bench_contrast(const BenchOptions& options) {
  BenchReport report;
  for (const int64_t size : options.patch) {
    if (size < 8)
      throw UsageError("--patch: expected at least 8 along every axis, the size of FeCL's patches");
  }
  const Device device = options.device;
  std::printf("%-52s %12s %12s %12s\n", "loss", "forward ms", "backward ms", "beyond");
  const auto row = [&](const std::string& name, const Contrast& c) {
    std::printf("%-52s %12.1f %12.1f %12s\n", name.c_str(), c.forward * 1e3, c.backward * 1e3,
                format_bytes(c.bytes).c_str());
    std::fflush(stdout);
    report.rows.push_back({{"loss", name},
                           {"forward_ms", c.forward * 1e3},
                           {"backward_ms", c.backward * 1e3},
                           {"bytes_beyond_operands", c.bytes}});
  };
  const auto grid = [&](int64_t samples, int64_t channels, int64_t patch) {
    return Shape{samples, channels, options.patch[0] / patch, options.patch[1] / patch,
                 options.patch[2] / patch};
  };
  const auto leaf = [&](const Shape& shape, uint64_t seed) {
    return Variable(random_tensor(shape, DType::f32, device, seed), true);
  };

  const Shape patches = grid(options.batch, 256, 8);
  const Variable features(embeddings(patches, device, 1), true);
  const Tensor teacher = embeddings(patches, device, 2);
  const Tensor labels = ellipsoid_labels(patches.with_channels(1), device);
  row(text("FeCL (DyCON): ", patches.n, " samples, ", patches.voxels(), " patches, 256 features"),
      measure_contrast(options, [&] { return kernels::fecl(features, teacher, labels, {}).loss; }));

  const Shape voxels = grid(1, 64, 4);
  const Variable a = leaf(voxels, 3), b = leaf(voxels, 4), negatives = leaf(voxels, 5);
  const Tensor logits = random_tensor(voxels.with_channels(2), DType::f32, device, 6),
               others = random_tensor(voxels.with_channels(2), DType::f32, device, 7);
  row(text("InfoNCE (RCPS): ", voxels.voxels(), " voxels, 64 features, 400 negatives"),
      measure_contrast(options, [&] { return voxel_contrast(a, b, negatives, logits, others, {}); }));
  return report;
}

}  // namespace semivox
