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

}  // namespace

Json bench_layers(const BenchOptions& options) {
  for (const int64_t size : options.patch) {
    if (size % 16 != 0) {
      throw UsageError(
          text("--patch: found ", extent_text(options.patch), ", expected multiples of 16x16x16"));
    }
  }
  std::printf("%-20s %-12s %5s | %9s %9s | %9s %9s | %9s %9s\n", "layer", "input", "count", "fwd ms",
              "GFLOP/s", "bwd-d ms", "GFLOP/s", "bwd-w ms", "GFLOP/s");
  Json rows = Json::array();
  Seconds total;
  double total_operations = 0;  // of the three passes
  for (const Layer& layer : vnet_layers(options.network)) {
    Shape x = options.shape(layer.geometry.in_channels);
    for (int64_t* size : {&x.d, &x.h, &x.w}) *size >>= layer.level;
    const double work = operations(layer.geometry, x, layer.geometry.output_shape(x));
    const Seconds seconds = time_layer(layer, x, options);
    const auto rate = [&](double s) { return s > 0 ? work / s * 1e-9 : 0.0; };
    const std::string name = layer_name(layer.geometry), size = extent_text({x.d, x.h, x.w});
    std::printf("%-20s %-12s %5lld | %9.3f %9.1f | %9.3f %9.1f | %9.3f %9.1f\n", name.c_str(), size.c_str(),
                static_cast<long long>(layer.count), seconds.forward * 1e3, rate(seconds.forward),
                seconds.backward_data * 1e3, rate(seconds.backward_data), seconds.backward_weights * 1e3,
                rate(seconds.backward_weights));
    std::fflush(stdout);
    rows.push_back({{"layer", name},
                    {"input", size},
                    {"count", layer.count},
                    {"gflop", work * 1e-9},
                    {"forward_ms", seconds.forward * 1e3},
                    {"backward_data_ms", layer.first ? Json() : Json(seconds.backward_data * 1e3)},
                    {"backward_weights_ms", seconds.backward_weights * 1e3}});
    const auto count = static_cast<double>(layer.count);
    total.forward += count * seconds.forward;
    total.backward_data += count * seconds.backward_data;
    total.backward_weights += count * seconds.backward_weights;
    total_operations += count * work * (layer.first ? 2 : 3);
  }
  const double sum = total.forward + total.backward_data + total.backward_weights;
  std::printf("sum over the network: %.1f + %.1f + %.1f = %.1f ms, %.1f GFLOP/s\n", total.forward * 1e3,
              total.backward_data * 1e3, total.backward_weights * 1e3, sum * 1e3,
              total_operations / sum * 1e-9);
  return {{"layers", rows},
          {"network",
           {{"forward_ms", total.forward * 1e3},
            {"backward_data_ms", total.backward_data * 1e3},
            {"backward_weights_ms", total.backward_weights * 1e3},
            {"gflop_per_second", total_operations / sum * 1e-9}}}};
}

}  // namespace semivox
