// SASSNet's discriminator against PyTorch's logits, SS-Net's heads: counts, names, modes; gradients by
// central differences.

#include <doctest/doctest.h>

#include "layers/discriminator.hpp"
#include "layers/ss_net.hpp"
#include "tests/network_check.hpp"

using namespace semivox;
using namespace semivox::testing;

TEST_CASE("discriminator: PyTorch's logits on a full patch, in f32") {
  Discriminator network;
  network.allocate(DType::f32, {}, false);
  for (Parameter& p : network.parameters().parameters()) {
    const double scale = p.name == "classifier.weight" ? 0.5 : 0.05;
    if (p.dims.size() > 1) {
      assign(p.value, [&](uint32_t j) { return scale * std::sin(0.37 * j); });
    } else {
      assign(p.value, [](uint32_t j) { return 0.01 * std::cos(static_cast<double>(j)); });
    }
  }
  network.parameters().touch();
  const Tensor x = Tensor::empty({1, 2, 112, 112, 80}, DType::f32, {});
  assign(x, [](uint32_t k) {
    const uint32_t i = k / 2;  // the map and the image alternate in memory
    return k % 2 == 0 ? std::tanh(std::sin(0.001 * i)) : std::cos(0.0017 * i);
  });
  const NoGrad no_grad;
  const std::vector<double> logits = network.forward(Variable(x), {}).value().to_doubles();
  REQUIRE(logits.size() == 2);
  CHECK(std::abs(logits[0] - 0.0238122935) < 1e-6);
  CHECK(std::abs(logits[1] - 0.0546491073) < 1e-6);
  CHECK(network.parameters().parameter_count() == 11020290);
}

TEST_CASE("discriminator: gradients of maps and weights, names") {
  Discriminator network(2, 0.5);
  network.allocate(DType::f64, {}, true);
  ParameterSet& set = network.parameters();
  CHECK(fill_by_tags(set) == 6);
  std::vector<std::string> names;
  for (const Parameter& p : set.parameters()) names.push_back(p.name);
  CHECK(names == std::vector<std::string>{"conv0.weight", "conv0.bias", "conv1.weight", "conv1.bias",
                                          "conv2.weight", "conv2.bias", "conv3.weight", "conv3.bias",
                                          "conv4.weight", "conv4.bias", "classifier.weight",
                                          "classifier.bias"});
  CHECK(set.parameters()[10].dims == std::vector<int64_t>{2, 16});
  const Tensor x = random_tensor({2, 2, 16, 32, 16}, 3);
  const Variable leaf(x, true);
  const auto graph = [&] {
    Random random(4, 5);
    return scalar_of(network.forward(leaf, {true, &random}));
  };
  graph().backward();
  const auto loss = [&] {
    set.touch();
    const NoGrad no_grad;
    return graph().value().data<double>()[0];
  };
  const GradientOptions few{.step = 1e-6, .tolerance = 1e-6, .floor = 1e-3, .elements = 6};
  check_gradient("maps and images", x, leaf.gradient(), loss, few);
  for (const Parameter& p : set.parameters()) check_gradient(p.name, p.value, p.gradient, loss, few);
}

TEST_CASE("SS-Net: parameter counts and names") {
  CHECK(parameter_count({.name = "vnet_ss"}) == 9457318);
  CHECK(parameter_count({.name = "unet2d_ss", .classes = 4}) == 1826828);
  const auto network = make_network({.name = "vnet_ss"});
  const std::deque<Parameter>& parameters = network->parameters().parameters();
  REQUIRE(parameters.size() == 118 + 6 * 6);
  CHECK(parameters[118].name == "projection_head.0.weight");
  CHECK(parameters[118].dims == std::vector<int64_t>{32, 16});
  CHECK(parameters[120].name == "projection_head.1.weight");
  CHECK(parameters[122].name == "projection_head.3.weight");
  CHECK(parameters[130].name == "contrastive_class_selector_0.0.weight");
  CHECK(parameters.back().name == "contrastive_class_selector_memory1.3.bias");
}

TEST_CASE("SS-Net: the logits are the V-Net's, the features make them") {
  const auto network = tagged_network({.name = "vnet_ss"}, 30 + 12);
  const auto plain = tagged_network({.name = "vnet"}, 30);
  const NoGrad no_grad;
  const Variable x(tagged_image({1, 1, 16, 32, 16}, DType::f32));
  const NetworkOutput output = network->forward_all(x, {});
  CHECK(output.logits.value().to_doubles() == plain->forward(x, {}).value().to_doubles());
  CHECK(output.features.shape() == Shape{1, 16, 16, 32, 16});
}

TEST_CASE("SS-Net: gradients of networks and heads") {
  check_network_gradient({.name = "unet2d_ss", .filters = 2}, {2, 1, 1, 16, 32});
  ParameterSet set;
  const ContrastHeads heads(set, 2, 2);
  randomize(set);
  check_op({random_tensor({1, 2, 1, 1, 7}, 1)}, &set, [&](const std::vector<Variable>& rows) {
    const Pass pass{true, nullptr};
    const Variable g = heads.prediction(heads.projection(rows[0], pass), pass);
    const Variable own =
        concat_channels(heads.class_selectors[0](g, pass), heads.class_selectors[1](g, pass));
    return concat_channels(
        own, concat_channels(heads.memory_selectors[0](g, pass), heads.memory_selectors[1](g, {})));
  });
}
