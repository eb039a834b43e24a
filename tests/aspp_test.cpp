// Dilated convolutions against the definition and the plain loops; the atrous
// pyramid and DyCON's network with it against PyTorch's numbers; first values
// of norms.

#include "layers/aspp.hpp"

#include <doctest/doctest.h>

#include "kernels/conv.hpp"
#include "tests/network_check.hpp"

using namespace semivox;
using namespace semivox::testing;
using kernels::ConvGeometry;
using kernels::ConvWeights;

namespace {

ConvWeights layer_weights(const Tensor& values) { return {values, std::make_shared<uint64_t>(1), nullptr}; }

/// Taps that lie inside and outside, an even kernel, strides, a map smaller
/// than the reach of the taps.
std::vector<std::pair<ConvGeometry, Shape>> dilated_cases() {
  return {{{3, 4, {3, 3, 3}, {1, 1, 1}, {2, 2, 2}, false, 2}, {2, 3, 6, 5, 4}},
          {{2, 5, {3, 1, 2}, {2, 1, 1}, {3, 0, 1}, false, 3}, {1, 2, 7, 4, 9}},
          {{4, 3, {3, 3, 3}, {1, 1, 1}, {6, 6, 6}, false, 6}, {2, 4, 7, 3, 6}}};
}

/// y of the definition in f64.
std::vector<double> definition(const ConvGeometry& g, const Tensor& x, const Tensor& w, const Tensor& b,
                               const Shape& out) {
  const Shape in = x.shape();
  std::vector<double> y;
  for (int64_t row = 0; row < out.rows(); ++row) {
    const int64_t ow = row % out.w, oh = row / out.w % out.h, od = row / out.w / out.h % out.d;
    for (int64_t o = 0; o < out.c; ++o) {
      double sum = b.data<double>()[o];
      for (int64_t k = 0; k < g.kernel[0] * g.kernel[1] * g.kernel[2]; ++k) {
        const int64_t kw = k % g.kernel[2], kh = k / g.kernel[2] % g.kernel[1],
                      kd = k / g.kernel[2] / g.kernel[1];
        const int64_t d = od * g.stride[0] - g.padding[0] + kd * g.dilation;
        const int64_t h = oh * g.stride[1] - g.padding[1] + kh * g.dilation;
        const int64_t v = ow * g.stride[2] - g.padding[2] + kw * g.dilation;
        if (d < 0 || d >= in.d || h < 0 || h >= in.h || v < 0 || v >= in.w) continue;
        const int64_t voxel = ((row / out.voxels() * in.d + d) * in.h + h) * in.w + v;
        const int64_t taps = g.kernel[0] * g.kernel[1] * g.kernel[2];
        for (int64_t c = 0; c < in.c; ++c) {
          sum += x.data<double>()[voxel * in.c + c] * w.data<double>()[(o * in.c + c) * taps + k];
        }
      }
      y.push_back(sum);
    }
  }
  return y;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

/// Forward, gradient of the input and of the weights in one dtype.
std::vector<std::vector<double>> run(const ConvGeometry& g, const Tensor& x, const Tensor& w, const Tensor& b,
                                     const Tensor& dy, DType dtype) {
  const DType parameters = dtype == DType::f64 ? DType::f64 : DType::f32;
  const ConvWeights weights = layer_weights(cast(w, parameters));
  Tensor y = Tensor::empty(dy.shape(), dtype, {}), dx = Tensor::empty(x.shape(), dtype, {});
  Tensor dw = Tensor::zeros(w.shape(), parameters, {});
  kernels::conv_forward(g, cast(x, dtype), weights, cast(b, parameters), y);
  kernels::conv_backward_data(g, cast(dy, dtype), weights, dx);
  kernels::conv_backward_weights(g, cast(x, dtype), cast(dy, dtype), dw);
  kernels::conv_backward_weights(g, cast(x, dtype), cast(dy, dtype),
                                 dw);  // adds
  return {y.to_doubles(), dx.to_doubles(), dw.to_doubles()};
}

}  // namespace

TEST_CASE(
    "dilated convolutions: plain loops as defined, products in f32 and "
    "bf16 as plain loops") {
  for (const auto& [g, shape] : dilated_cases()) {
    CAPTURE(g.dilation);
    const Shape out = g.output_shape(shape);
    const Tensor x = random_tensor(shape, 1), dy = random_tensor(out, 2);
    const Tensor w = random_tensor({1, g.weight_count(), 1, 1, 1}, 3);
    const Tensor b = random_tensor({1, g.out_channels, 1, 1, 1}, 4);
    const auto plain = run(g, x, w, b, dy, DType::f64);
    CHECK(largest_difference(plain[0], definition(g, x, w, b, out)) < 1e-13);
    const auto single = run(g, x, w, b, dy, DType::f32), half = run(g, x, w, b, dy, DType::bf16);
    for (size_t k = 0; k < 3; ++k) {
      CAPTURE(k);
      double scale = 0;
      for (const double v : plain[k]) scale = std::max(scale, std::abs(v));
      CHECK(largest_difference(single[k], plain[k]) < 1e-6 * scale);
      CHECK(largest_difference(half[k], plain[k]) < 1e-2 * scale);
    }
  }
  CHECK_THROWS_AS(
      (ConvGeometry{1, 1, {3, 3, 3}, {1, 1, 1}, {2, 2, 2}, true, 2}.output_shape({1, 1, 9, 9, 9})),
      InternalError);
}

TEST_CASE("dilated layers: gradients by central differences") {
  for (const auto& [g, shape] : dilated_cases()) {
    ParameterSet set;
    const ConvLayer layer = declare_conv(set, "conv", g);
    randomize(set);
    check_op({random_tensor(shape, 5)}, &set,
             [&](const std::vector<Variable>& x) { return conv(x[0], layer); });
  }
}

TEST_CASE("ASPP: PyTorch's numbers, a batch of two and of one, gradients") {
  struct Row {
    Shape shape;
    bool training;
    Summary expected;
  };
  const Shape two{2, 3, 9, 7, 13}, one{1, 3, 9, 7, 13};
  for (const Row& row : {Row{two, true, {0.3819655, 0.6508394, 2.3831095, 0.5677779}},
                         Row{two, false, {0.2424661, 0.2593867, 0.2199426, 0.2748990}},
                         Row{one, true, {0.3792859, 0.6560120, 2.2850954, 0.0000000}},
                         Row{one, false, {0.2457079, 0.2614844, 0.2199427, 0.1058682}}}) {
    CAPTURE(row.shape.n);
    CAPTURE(row.training);
    ParameterSet set;
    const ASPP aspp(set, "aspp", 3, 4);
    set.allocate(DType::f64, {}, true);
    CHECK(fill_by_tags(set) == 6);
    const Variable x(tagged_image(row.shape, DType::f64));
    const NoGrad no_grad;
    check_summary("aspp", aspp(x, {row.training, nullptr}, 0), row.expected, 6e-8);
  }
  ParameterSet set;
  const ASPP aspp(set, "aspp", 2, 3);
  randomize(set);
  for (const int64_t samples : {2, 1}) {
    check_op({random_tensor({samples, 2, 7, 3, 2}, 6)}, &set, [&](const std::vector<Variable>& x) {
      Random random(1, 2);
      return aspp(x[0], {true, &random}, 0.5);
    });
  }
}

TEST_CASE("unet3d_dycon_aspp: PyTorch's numbers, names and count") {
  const NetworkOptions options{.name = "unet3d_dycon_aspp"};
  CHECK(parameter_count(options) == 11918772);
  const auto network = tagged_network(options, 28);
  const Variable x(tagged_image({2, 1, 32, 32, 32}, DType::f32));
  const NoGrad no_grad;
  const NetworkOutput output = network->forward_all(x, {});
  check_summary("logits", output.logits, {0.0879032, 0.8561838, 0.1487829, -0.4375723}, 5e-6);
  check_summary("features", output.features, {0.0033342, 0.5475562, -0.9742279, 0.0907599}, 1e-5);
  check_summary("features in training", network->forward_all(x, {true, nullptr}).features,
                {0.0, 0.9999913, 0.4209241, 1.9478916}, 2e-4);
  const std::deque<Parameter>& parameters = network->parameters().parameters();
  REQUIRE(parameters.size() == 66);
  CHECK(parameters[40].name == "aspp.aspp1.atrous_conv.weight");
  CHECK(parameters[51].name == "aspp.aspp4.bn.bias");
  CHECK(parameters[52].name == "aspp.global_avg_pool.1.weight");
  CHECK(parameters[54].name == "aspp.bn_after_pool.bias");
  CHECK(parameters[55].name == "aspp.conv1.weight");
  CHECK(parameters[57].name == "aspp.bn1.bias");
}

TEST_CASE("DyCON's networks start with norms drawn from N(1, 0.02)") {
  const auto network = make_network({.name = "unet3d_dycon_aspp"});
  network->allocate(DType::f32, {}, false);
  network->parameters().initialize(5);
  double sum = 0, square = 0;
  int64_t count = 0;
  for (const Parameter& p : network->parameters().parameters()) {
    if (p.dims.size() != 1) continue;
    const bool norm = p.name.find("bn") != std::string::npos || p.name == "projection.1.weight" ||
                      p.name == "projection.4.weight";
    if (!norm || !p.name.ends_with(".weight")) continue;
    for (const double v : p.value.to_doubles()) sum += v, square += (v - 1) * (v - 1);
    count += p.count;
  }
  REQUIRE(count == 6 * 256 + 512 + 256);
  CHECK(sum / static_cast<double>(count) == doctest::Approx(1).epsilon(0.002));
  CHECK(std::sqrt(square / static_cast<double>(count)) == doctest::Approx(0.02).epsilon(0.05));
}
