// What the tests of all networks share: the formula that fills weights and images, summaries of outputs, and
// gradients of whole networks against central differences.
#pragma once

#include "layers/network.hpp"
#include "tests/assign.hpp"
#include "tests/op_check.hpp"

namespace semivox::testing {

/// u(i, t) in [-0.5, 0.5): the integer hash behind PyTorch's numbers in the tests of networks.
inline double tag_noise(uint32_t i, uint32_t t) {
  uint32_t h = (i + 7919u * t) * 2654435761u;
  h ^= h >> 16;
  h *= 2246822519u;
  h ^= h >> 13;
  return h / 4294967296.0 - 0.5;
}

/// Convolution number t, in the order of declaration: weight sqrt(24 / fan) u(i, t), fan the second axis
/// times the kernel's volume; bias 0.1 u(i, t + 500). Everything else has its first value, or the mean of
/// its first values where they are drawn. Returns the number of convolutions.
inline uint32_t fill_by_tags(ParameterSet& set) {
  set.initialize(1);
  for (Parameter& p : set.parameters()) {
    if (p.dims.size() < 2 && p.initializer.kind == Initializer::Kind::normal)
      fill(p.value, p.initializer.mean);
  }
  uint32_t t = 0;
  std::deque<Parameter>& parameters = set.parameters();
  for (size_t k = 0; k < parameters.size(); ++k) {
    const Parameter& weight = parameters[k];
    if (weight.dims.size() < 2) continue;
    const double fan = static_cast<double>(weight.count / weight.dims[0]);
    assign(weight.value, [&](uint32_t i) { return std::sqrt(24 / fan) * tag_noise(i, t); });
    const std::string bias = weight.name.substr(0, weight.name.rfind('.')) + ".bias";
    if (k + 1 < parameters.size() && parameters[k + 1].name == bias)
      assign(parameters[k + 1].value, [&](uint32_t i) { return 0.1 * tag_noise(i, t + 500); });
    ++t;
  }
  set.touch();
  return t;
}

/// The image that belongs to `fill_by_tags`: one channel.
inline Tensor tagged_image(const Shape& shape, DType dtype) {
  Tensor image = Tensor::empty(shape, dtype, {});
  assign(image, [](uint32_t i) { return 2 * tag_noise(i, 1000); });
  return image;
}

/// A network with weights from `fill_by_tags` and without dropout.
inline std::unique_ptr<Network> tagged_network(NetworkOptions options, uint32_t convolutions,
                                               DType precision = DType::f32) {
  options.dropout = 0;
  auto network = make_network(options);
  network->allocate(precision, {}, true);
  CHECK(fill_by_tags(network->parameters()) == convolutions);
  return network;
}

/// Mean, population standard deviation, first and last element.
struct Summary {
  double mean, deviation, first, last;
};

inline void check_summary(const std::string& name, const Variable& output, const Summary& expected,
                          double tolerance) {
  INFO(name);
  REQUIRE(output.defined());
  const std::vector<double> values = output.value().to_doubles();
  const auto count = static_cast<double>(values.size());
  double mean = 0, variance = 0;
  for (const double v : values) mean += v / count;
  for (const double v : values) variance += (v - mean) * (v - mean) / count;
  CHECK(std::abs(mean - expected.mean) < tolerance);
  CHECK(std::abs(std::sqrt(variance) - expected.deviation) < tolerance);
  CHECK(std::abs(values.front() - expected.first) < tolerance);
  CHECK(std::abs(values.back() - expected.last) < tolerance);
}

inline int64_t parameter_count(const NetworkOptions& options) {
  return make_network(options)->parameters().parameter_count();
}

/// Sum over all outputs of the network of random multiples of their elements.
inline Variable scalar_of(const NetworkOutput& output) {
  Variable sum = scalar_of(output.logits);
  for (const Variable& logits : output.auxiliary) sum = sum + scalar_of(logits);
  if (output.distance.defined()) sum = sum + scalar_of(output.distance);
  if (output.features.defined()) sum = sum + scalar_of(output.features);
  return sum;
}

/// Gradients of all outputs of a small network in f64, training with dropout: all parameters along random
/// directions, and elements of the input.
inline void check_network_gradient(const NetworkOptions& options, const Shape& shape) {
  const OneThread one_thread;
  const auto network = make_network(options);
  INFO(options.name, " ", network->options().norm, " dropout ", network->options().dropout);
  network->allocate(DType::f64, {}, true);
  ParameterSet& set = network->parameters();
  fill_by_tags(set);
  uint32_t t = 2000;
  for (Parameter& p : set.parameters()) {
    if (p.dims.size() < 2) {
      const bool drawn = p.initializer.kind == Initializer::Kind::normal;
      const double first = drawn ? p.initializer.mean : p.initializer.value;
      assign(p.value, [&](uint32_t i) { return first + 0.2 * tag_noise(i, t); });
    }
    ++t;
  }
  set.touch();
  const Variable x(tagged_image(shape, DType::f64), true);
  const auto graph = [&] {
    Random random(8, 9);
    return scalar_of(network->forward_all(x, {true, &random}));
  };
  const auto loss = [&] {
    set.touch();
    const NoGrad no_grad;
    return graph().value().data<double>()[0];
  };
  graph().backward();
  std::vector<Tensor> values, gradients;
  for (const Parameter& p : set.parameters()) {
    values.push_back(p.value);
    gradients.push_back(p.gradient);
  }
  // A direction moves every activation at once: only a very small step stays clear of all kinks.
  for (const uint32_t seed : {1u, 2u}) {
    std::vector<Tensor> directions;
    for (size_t k = 0; k < values.size(); ++k)
      directions.push_back(
          random_tensor({1, values[k].elements(), 1, 1, 1}, seed + 100 * static_cast<uint32_t>(k)));
    check_directional_gradient("parameters", values, gradients, directions, loss,
                               {.step = 1e-9, .tolerance = 1e-5, .floor = 1e-3});
  }
  check_gradient("input", x.value(), x.gradient(), loss,
                 {.step = 1e-6, .tolerance = 2e-6, .floor = 1e-3, .elements = 4});
}

}  // namespace semivox::testing
