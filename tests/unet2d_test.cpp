// The 2D U-Net against PyTorch's numbers: names, parameter counts, outputs, cross-entropy and gradients in
// f64; gradients of small networks by central differences.

#include "layers/unet2d.hpp"

#include <doctest/doctest.h>

#include "tests/network_check.hpp"

using namespace semivox;
using namespace semivox::testing;

namespace {

const NetworkOptions kOptions{.name = "unet2d", .classes = 4};

/// Tensor t, element j: s = sin(0.7 j + 0.3 t); convolution weights s / sqrt(fan), norm weights 1 + 0.1 s,
/// everything else 0.1 s.
std::unique_ptr<Network> sine_network() {
  NetworkOptions options = kOptions;
  options.dropout = 0;
  auto network = make_network(options);
  network->allocate(DType::f64, {}, true);
  network->parameters().initialize(1);
  uint32_t t = 0;
  for (Parameter& p : network->parameters().parameters()) {
    const bool gamma = p.dims.size() == 1 && p.initializer.value == 1;
    const double scale = p.dims.size() == 4 ? 1 / std::sqrt(static_cast<double>(p.count / p.dims[0])) : 0.1;
    assign(p.value, [&](uint32_t j) { return (gamma ? 1.0 : 0.0) + scale * std::sin(0.7 * j + 0.3 * t); });
    ++t;
  }
  CHECK(t == 82);
  network->parameters().touch();
  return network;
}

constexpr int64_t kSide = 64;

Variable sine_image() {
  const Tensor x = Tensor::empty({2, 1, 1, kSide, kSide}, DType::f64, {});
  assign(x, [](uint32_t at) {
    const double i = at / kSide % kSide, k = at % kSide;
    return at < kSide * kSide ? std::sin(0.05 * i + 0.11 * k) : std::cos(0.13 * i - 0.04 * k);
  });
  return Variable(x);
}

/// Mean cross-entropy against y0 = floor((i + 2k) / 7) mod 4 and y1 = y0 + 1 mod 4.
Variable cross_entropy(const Variable& logits) {
  const Tensor& z = logits.value();
  const Tensor gradient = Tensor::empty(z.shape(), DType::f64, {});
  Tensor loss = Tensor::zeros({}, DType::f64, {});
  const auto rows = static_cast<double>(z.shape().rows());
  for (int64_t row = 0; row < z.shape().rows(); ++row) {
    const int64_t n = row / (kSide * kSide), i = row / kSide % kSide, k = row % kSide;
    const int64_t y = ((i + 2 * k) / 7 + n) % 4;
    double sum = 0;
    for (int64_t c = 0; c < 4; ++c) sum += std::exp(z.data<double>()[row * 4 + c]);
    loss.data<double>()[0] += (std::log(sum) - z.data<double>()[row * 4 + y]) / rows;
    for (int64_t c = 0; c < 4; ++c)
      gradient.data<double>()[row * 4 + c] =
          (std::exp(z.data<double>()[row * 4 + c]) / sum - (c == y ? 1 : 0)) / rows;
  }
  return Variable::result(loss, {logits}, false,
                          [logits, gradient](const Tensor&) { logits.add_gradient(gradient); });
}

void check_logits(const Tensor& logits, double mean, double mean_size) {
  const std::vector<double> values = logits.to_doubles();
  double sum = 0, size = 0;
  for (const double v : values) {
    sum += v;
    size += std::abs(v);
  }
  CHECK(std::abs(sum / static_cast<double>(values.size()) - mean) < 1e-12);
  CHECK(std::abs(size / static_cast<double>(values.size()) - mean_size) < 1e-12);
}

void check_pixel(const Tensor& logits, int64_t n, int64_t i, int64_t k, const double (&expected)[4]) {
  for (int64_t c = 0; c < 4; ++c)
    CHECK(std::abs(logits.data<double>()[((n * kSide + i) * kSide + k) * 4 + c] - expected[c]) < 1e-12);
}

}  // namespace

TEST_CASE("2D U-Net: PyTorch's logits, cross-entropy and gradients in f64") {
  const auto network = sine_network();
  const Variable x = sine_image();
  {
    const NoGrad no_grad;
    const Tensor logits = network->forward(x, {}).value();
    check_logits(logits, 0.0176544088311, 0.1200094047429);
    check_pixel(logits, 0, 10, 20, {-0.0761235738345, -0.0150583289770, 0.0523627911353, 0.0946113320303});
  }
  const Variable logits = network->forward(x, {true, nullptr});
  check_logits(logits.value(), 0.0256772613352, 0.2838031256641);
  check_pixel(logits.value(), 0, 10, 20,
              {-0.0750015338695, -0.0144020744907, 0.0525060463347, 0.0942312815394});
  check_pixel(logits.value(), 1, 63, 0, {0.4488965161228, 0.4179145412728, 0.3621384863159, 0.2589032384988});
  const Variable loss = cross_entropy(logits);
  CHECK(std::abs(loss.value().data<double>()[0] - 1.4100688024717) < 1e-12);
  loss.backward();
  double square = 0;
  for (const double g : network->parameters().gradients().to_doubles()) square += g * g;
  CHECK(std::abs(std::sqrt(square) - 0.2924729355892) < 1e-12);
  const std::deque<Parameter>& parameters = network->parameters().parameters();
  CHECK(std::abs(parameters.front().gradient.data<double>()[0] - -2.9616755687e-4) < 1e-14);
  const double bias[] = {-0.0112803820659, -0.0103637432123, 0.0033017751992, 0.0183423500791};
  for (int c = 0; c < 4; ++c) CHECK(std::abs(parameters.back().gradient.data<double>()[c] - bias[c]) < 1e-12);
  const std::deque<Parameter>& buffers = network->parameters().buffers();
  CHECK(std::abs(buffers[0].value.data<double>()[0] - 0.0028547151294) < 1e-12);
  CHECK(std::abs(buffers[1].value.data<double>()[0] - 0.9015841344907) < 1e-12);
}

TEST_CASE("2D U-Net: another filler, f32, evaluation and training") {
  const auto network = tagged_network(kOptions, 23);
  const Variable x(tagged_image({2, 1, 1, 64, 64}, DType::f32));
  const NoGrad no_grad;
  check_summary("evaluation", network->forward(x, {}), {-1.6201684, 3.6246194, 1.7074930, -0.1578386}, 2e-5);
  check_summary("training", network->forward(x, {true, nullptr}),
                {-0.0684529, 0.9452888, -0.0673096, 0.4003405}, 2e-5);
}

TEST_CASE("2D U-Net: parameter counts, names, shapes") {
  CHECK(parameter_count(kOptions) == 1813764);
  const auto network = make_network(kOptions);
  CHECK(network->options().norm == "batchnorm");
  CHECK(network->options().dropout == 0.5);
  CHECK(network->divisor() == std::array<int64_t, 3>{1, 16, 16});
  const std::deque<Parameter>& parameters = network->parameters().parameters();
  REQUIRE(parameters.size() == 82);
  using Dims = std::vector<int64_t>;
  const std::tuple<size_t, const char*, Dims> expected[] = {
      {0, "encoder.in_conv.conv_conv.0.weight", {16, 1, 3, 3}},
      {2, "encoder.in_conv.conv_conv.1.weight", {16}},
      {4, "encoder.in_conv.conv_conv.4.weight", {16, 16, 3, 3}},
      {7, "encoder.in_conv.conv_conv.5.bias", {16}},
      {8, "encoder.down1.maxpool_conv.1.conv_conv.0.weight", {32, 16, 3, 3}},
      {40, "decoder.up1.conv1x1.weight", {128, 256, 1, 1}},
      {42, "decoder.up1.conv.conv_conv.0.weight", {128, 256, 3, 3}},
      {80, "decoder.out_conv.weight", {4, 16, 3, 3}},
      {81, "decoder.out_conv.bias", {4}}};
  for (const auto& [at, name, dims] : expected) {
    CHECK(parameters[at].name == name);
    CHECK(parameters[at].dims == dims);
  }
  int64_t running = 0, counters = 0;
  for (const Parameter& buffer : network->parameters().buffers())
    (buffer.counter ? counters : running) += buffer.count;
  CHECK(running == 2944);
  CHECK(counters == 18);
}

TEST_CASE("2D U-Net: gradients of small networks, with dropout, for stacks of slices") {
  check_network_gradient({.name = "unet2d", .in_channels = 3, .classes = 4, .filters = 2}, {2, 3, 1, 16, 32});
  check_network_gradient({.name = "unet2d", .filters = 2, .dropout = 0}, {1, 1, 2, 32, 32});
}

TEST_CASE("2D U-Net: dropout acts in training only, and needs random numbers") {
  const auto network = make_network({.name = "unet2d", .filters = 2});
  network->allocate(DType::f32, {}, true);
  network->parameters().initialize(3);
  const Variable x(tagged_image({2, 1, 1, 32, 32}, DType::f32));
  const NoGrad no_grad;
  Random first(1, 1), again(1, 1), other(1, 2);
  const std::vector<double> a = network->forward(x, {true, &first}).value().to_doubles();
  CHECK(network->forward(x, {true, &again}).value().to_doubles() == a);
  CHECK(network->forward(x, {true, &other}).value().to_doubles() != a);
  CHECK_THROWS_AS(network->forward(x, {true, nullptr}), InternalError);
  CHECK_NOTHROW(network->forward(x, {}));
}

TEST_CASE("2D U-Net: wrong options and sizes") {
  CHECK_THROWS_WITH_AS(make_network({.name = "unet2d", .norm = "groupnorm"}),
                       "norm: found 'groupnorm', expected batchnorm for unet2d", UsageError);
  CHECK_THROWS_WITH_AS(make_network({.name = "unet2d", .residual = true}),
                       "residual: found true, expected false for unet2d", UsageError);
  const auto network = make_network(kOptions);
  network->allocate(DType::f32, {}, false);
  const Variable wrong(Tensor::zeros({1, 1, 1, 32, 24}, DType::f32, {}));
  CHECK_THROWS_WITH_AS(network->forward(wrong, {}),
                       "network unet2d: patch 1x32x24, expected multiples of 1x16x16", UsageError);
}
