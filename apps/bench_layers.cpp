#include <algorithm>
#include <cstdio>
#include <memory>

#include "apps/bench.hpp"
#include "apps/extent.hpp"
#include "engine/error.hpp"
#include "kernels/conv.hpp"
#include "layers/block.hpp"

namespace semivox {
namespace {

using Json = nlohmann::ordered_json;

/// A convolution shape of the V-Net.
struct Layer {
  kernels::ConvGeometry geometry;
  int64_t level;        ///< its input has the patch's size / 2^level
  int64_t count;        ///< how many layers of the network have this shape
  bool first = false;   ///< reads the image, which needs no gradient
  bool logits = false;  ///< writes f32 whatever the precision
};

std::vector<Layer> vnet_layers(const NetworkOptions& options) {
  const int64_t f = options.filters;
  const int64_t convolutions[] = {1, 4, 6, 6, 3};  // 3^3 per level, down and up path, without the first
  std::vector<Layer> layers{{same_conv(options.in_channels, f, 3), 0, 1, true}};
  for (int64_t level = 0; level < 5; ++level) {
    const int64_t width = f << level;
    layers.push_back({same_conv(width, width, 3), level, convolutions[level]});
    if (level < 4) layers.push_back({down_conv(width, 2 * width), level, 1});
  }
  for (int64_t level = 4; level > 0; --level) {
    layers.push_back({up_conv(f << level, f << (level - 1)), level, 1});
  }
  layers.push_back({same_conv(f, options.classes, 1), 0, 1, false, true});
  return layers;
}

std::string layer_name(const kernels::ConvGeometry& g) {
  return text(g.transposed      ? "up "
              : g.stride[0] > 1 ? "down "
                                : "conv ",
              g.in_channels, "->", g.out_channels, " ", g.kernel[0], "^3");
}

/// Multiplications and additions of one pass over a batch.
double operations(const kernels::ConvGeometry& g, const Shape& x, const Shape& y) {
  const Shape& taps_at = g.transposed ? x : y;  // every voxel here meets every tap
  return 2.0 * static_cast<double>(taps_at.rows()) * static_cast<double>(g.weight_count());
}

struct Seconds {
  double forward = 0, backward_data = 0, backward_weights = 0;
};

Shape input_shape(const Layer& layer, const BenchOptions& options) {
  Shape x = options.shape(layer.geometry.in_channels);
  for (int64_t* size : {&x.d, &x.h, &x.w}) *size >>= layer.level;
  return x;
}

double operations(const Layer& layer, const BenchOptions& options) {
  const Shape x = input_shape(layer, options);
  return operations(layer.geometry, x, layer.geometry.output_shape(x));
}

Seconds time_layer(const Layer& layer, const Shape& x_shape, const BenchOptions& options) {
  const Device device = options.device;
  const kernels::ConvGeometry& g = layer.geometry;
  const DType y_type = layer.logits ? DType::f32 : options.precision;
  const Tensor x = random_tensor(x_shape, options.precision, device, 1);
  const Tensor dy = random_tensor(g.output_shape(x_shape), y_type, device, 2);
  const kernels::ConvWeights weights{random_tensor({1, g.weight_count(), 1, 1, 1}, DType::f32, device, 3),
                                     std::make_shared<uint64_t>(1), nullptr};
  const Tensor bias = random_tensor({1, g.out_channels, 1, 1, 1}, DType::f32, device, 4);
  Tensor y = Tensor::empty(dy.shape(), y_type, device),
         dx = Tensor::empty(x_shape, options.precision, device);
  Tensor dw = Tensor::zeros(weights.values.shape(), DType::f32, device);
  Seconds seconds;
  seconds.forward =
      median_seconds(device, options.iterations, [&] { kernels::conv_forward(g, x, weights, bias, y); });
  if (!layer.first) {
    seconds.backward_data =
        median_seconds(device, options.iterations, [&] { kernels::conv_backward_data(g, dy, weights, dx); });
  }
  seconds.backward_weights =
      median_seconds(device, options.iterations, [&] { kernels::conv_backward_weights(g, x, dy, dw); });
  return seconds;
}

/// Operations per second of a wide convolution at the fastest of its passes: the ceiling. Its matrix
/// products, (voxels, 27 * channels) by (27 * channels, channels), are the largest that the library gets to
/// see.
double wide_convolution_rate(const BenchOptions& options) {
  const int64_t side = options.device.is_cuda() ? 32 : 16, channels = 16 * side;
  const Layer wide{same_conv(channels, channels, 3), 0, 1};
  const Shape x{1, channels, side, side, side};
  const Seconds seconds = time_layer(wide, x, options);
  const double work = operations(wide.geometry, x, x);
  const double rate = work / std::min({seconds.forward, seconds.backward_data, seconds.backward_weights});
  std::printf("ceiling: %s at %s, the fastest pass: %.1f GFLOP/s\n", layer_name(wide.geometry).c_str(),
              extent_text({side, side, side}).c_str(), rate * 1e-9);
  return rate;
}

}  // namespace

Operations vnet_operations(const BenchOptions& options) {
  Operations sum;
  for (const Layer& layer : vnet_layers(options.network)) {
    const double forward = static_cast<double>(layer.count) * operations(layer, options);
    sum.forward += forward;
    sum.backward += forward * (layer.first ? 1 : 2);
  }
  return sum;
}

BenchReport bench_layers(const BenchOptions& options) {
  for (const int64_t size : options.patch) {
    if (size % 16 != 0) {
      throw UsageError(
          text("--patch: found ", extent_text(options.patch), ", expected multiples of 16x16x16"));
    }
  }
  const double ceiling = wide_convolution_rate(options);
  std::printf("%-20s %-12s %5s | %9s %9s %6s | %9s %9s %6s | %9s %9s %6s\n", "layer", "input", "count",
              "fwd ms", "GFLOP/s", "share", "bwd-d ms", "GFLOP/s", "share", "bwd-w ms", "GFLOP/s", "share");
  BenchReport report;
  Seconds total;
  double total_operations = 0;  // of the three passes
  for (const Layer& layer : vnet_layers(options.network)) {
    const std::string name = layer_name(layer.geometry);
    if (name.find(options.filter) == std::string::npos) continue;
    const Shape x = input_shape(layer, options);
    const double work = operations(layer, options);
    const Seconds seconds = time_layer(layer, x, options);
    const std::string size = extent_text({x.d, x.h, x.w});
    std::printf("%-20s %-12s %5lld", name.c_str(), size.c_str(), static_cast<long long>(layer.count));
    Json row{{"layer", name}, {"input", size}, {"count", layer.count}, {"gflop", work * 1e-9}};
    const auto add = [&](const std::string& pass, double s) {
      const bool done = s > 0;  // no gradient of the image
      std::printf(" | %9.3f %9.1f %5.1f%%", s * 1e3, done ? work / s * 1e-9 : 0,
                  done ? 100 * work / s / ceiling : 0);
      row[pass + "_ms"] = done ? Json(s * 1e3) : Json();
      row[pass + "_share"] = done ? Json(work / s / ceiling) : Json();
    };
    add("forward", seconds.forward);
    add("backward_data", seconds.backward_data);
    add("backward_weights", seconds.backward_weights);
    std::printf("\n");
    std::fflush(stdout);
    report.rows.push_back(row);
    const auto count = static_cast<double>(layer.count);
    total.forward += count * seconds.forward;
    total.backward_data += count * seconds.backward_data;
    total.backward_weights += count * seconds.backward_weights;
    total_operations += count * work * (layer.first ? 2 : 3);
  }
  if (report.rows.empty()) {
    throw UsageError(text("--filter: found '", options.filter, "', expected a part of a layer's name"));
  }
  const double sum = total.forward + total.backward_data + total.backward_weights;
  const double rate = total_operations / sum;
  std::printf("sum of count * time: %.1f + %.1f + %.1f = %.1f ms, %.1f GFLOP/s, %.1f%% of the ceiling\n",
              total.forward * 1e3, total.backward_data * 1e3, total.backward_weights * 1e3, sum * 1e3,
              rate * 1e-9, 100 * rate / ceiling);
  report.details["ceiling_gflop_per_second"] = ceiling * 1e-9;
  report.details["sum"] = {{"forward_ms", total.forward * 1e3},
                           {"backward_data_ms", total.backward_data * 1e3},
                           {"backward_weights_ms", total.backward_weights * 1e3},
                           {"gflop_per_second", rate * 1e-9},
                           {"share", rate / ceiling}};
  return report;
}

}  // namespace semivox
