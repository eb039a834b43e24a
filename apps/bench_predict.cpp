// Prediction of one scan from overlapping windows, without files.
#include <cstdio>

#include "apps/bench.hpp"
#include "engine/memory.hpp"
#include "methods/sliding_window.hpp"

namespace semivox {

BenchReport bench_predict(const BenchOptions& options) {
  const Device device = options.device;
  const auto network = make_network(options.network);
  network->allocate(options.precision, device, false);
  network->parameters().initialize(1);
  WindowOptions windows;
  windows.patch = options.patch;
  windows.stride = options.stride;
  windows.batch = options.window_batch;
  windows.whole_volume = options.whole_volume;
  const int64_t count = window_count(*network, options.size, windows);
  const auto scan = [&](const BenchOptions::Extent& size) {
    return random_tensor({1, options.network.in_channels, size[0], size[1], size[2]}, DType::f32, device, 1);
  };
  // The warm-up is one batch of windows instead of a whole scan, which may take minutes.
  const Tensor image = scan(options.size);
  BenchOptions::Extent first = options.whole_volume ? options.size : options.patch;
  if (!options.whole_volume) first[2] += (options.window_batch - 1) * options.stride[2];
  predict_probabilities(*network, scan(first), windows);
  synchronize(device);
  reset_peak_memory(device);

  std::vector<double> times;
  for (int64_t i = 0; i < options.iterations; ++i) {
    const double start = now_seconds();
    predict_probabilities(*network, image, windows);
    synchronize(device);
    times.push_back(now_seconds() - start);
  }
  const double seconds = median(times);
  const int64_t peak = memory_statistics(device).peak_total;
  std::printf("%lld windows in %.2f s, %.2f ms each; peak %s\n", static_cast<long long>(count), seconds,
              seconds * 1e3 / static_cast<double>(count), format_bytes(peak).c_str());
  BenchReport report;
  report.rows.push_back({{"windows", count},
                         {"seconds", seconds},
                         {"ms_per_window", seconds * 1e3 / static_cast<double>(count)},
                         {"peak_bytes", peak}});
  return report;
}

}  // namespace semivox
