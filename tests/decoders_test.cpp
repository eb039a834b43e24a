// Networks of several decoders and heads, and MCF's ResVNet, against PyTorch's numbers: all outputs in f32,
// parameter counts, names; gradients of small networks by central differences.

#include <doctest/doctest.h>

#include "tests/network_check.hpp"

using namespace semivox;
using namespace semivox::testing;

namespace {

const Shape kVolume{2, 1, 32, 32, 32};
const Shape kSlices{2, 1, 1, 64, 64};

/// Summaries of `logits` and of all `auxiliary` outputs.
void check_outputs(Network& network, const Shape& shape, bool training, const std::vector<Summary>& expected,
                   double tolerance) {
  INFO(network.options().name, training ? " training" : " evaluation");
  const NoGrad no_grad;
  const Variable x(tagged_image(shape, DType::f32));
  const NetworkOutput output = network.forward_all(x, {training, nullptr});
  REQUIRE(output.auxiliary.size() + 1 == expected.size());
  check_summary("logits", output.logits, expected[0], tolerance);
  for (size_t k = 1; k < expected.size(); ++k)
    check_summary(text("auxiliary ", k), output.auxiliary[k - 1], expected[k], tolerance);
  if (training) return;
  // Prediction runs only what it needs, with the same result.
  CHECK(network.forward(x, {}).value().to_doubles() == output.logits.value().to_doubles());
}

std::vector<std::string> names_of(const NetworkOptions& options) {
  const auto network = make_network(options);
  std::vector<std::string> names;
  for (const Parameter& p : network->parameters().parameters()) names.push_back(p.name);
  return names;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

TEST_CASE("MC-Net+ 3D: PyTorch's logits of three decoders") {
  const auto network = tagged_network({.name = "mc_net_plus"}, 58);
  check_outputs(*network, kVolume, false,
                {{0.3307378, 0.6031399, 0.0723532, 0.0826212},
                 {-0.0205125, 0.8206048, 0.1904561, 0.2946382},
                 {0.0757966, 1.3543777, 0.0143111, 0.4507838}},
                5e-6);
  check_outputs(*network, kVolume, true,
                {{0.1848774, 0.7022188, 1.0929083, -0.3892953},
                 {-0.4472209, 0.7958027, -0.0505215, 0.2595338},
                 {-0.0088841, 0.8178195, 0.3793857, -0.5104920}},
                3e-5);
}

TEST_CASE("MC-Net+ 2D: PyTorch's logits of three decoders") {
  const auto network = tagged_network({.name = "mc_net_plus_2d", .classes = 4}, 49);
  check_outputs(*network, kSlices, false,
                {{-1.6201684, 3.6246195, 1.7074931, -0.1578386},
                 {-0.3869730, 2.3286898, -0.4431860, -0.8174025},
                 {7.5665870, 7.8505083, 0.5501251, 2.2722838}},
                2e-5);
  check_outputs(*network, kSlices, true,
                {{-0.0684529, 0.9452887, -0.0673096, 0.4003404},
                 {-0.3259101, 1.1403329, -0.4071887, 0.2682649},
                 {0.2015307, 0.9060240, -0.1325655, 0.4101351}},
                3e-5);
}

TEST_CASE("CVBM: PyTorch's logits of foreground, mixing and background, in 3D and 2D") {
  const auto volume = tagged_network({.name = "cvbm"}, 48);
  check_outputs(*volume, kVolume, true,
                {{0.1846992, 0.7018741, 1.0583410, -0.4645844},
                 {-0.7834533, 1.0970708, -0.1951258, 0.1713463},
                 {-0.6022074, 1.1453706, -1.2268419, 1.3738763}},
                3e-5);
  const auto slices = tagged_network({.name = "cvbm_2d", .classes = 4}, 38);
  check_outputs(*slices, kSlices, false,
                {{-1.6201684, 3.6246194, 1.7074928, -0.1578387},
                 {0.1315980, 4.6697213, -1.6644158, 0.0948796},
                 {-1.2294707, 3.9197501, -0.3705208, -0.1782067}},
                2e-5);
  check_outputs(*slices, kSlices, true,
                {{-0.0684529, 0.9452888, -0.0673096, 0.4003407},
                 {-0.0379699, 1.3366750, -0.9304236, 0.5743116},
                 {-0.3294750, 1.1238923, -0.6371303, 0.7032307}},
                3e-5);
}

TEST_CASE("ResVNet: PyTorch's logits") {
  const auto network = tagged_network({.name = "resvnet"}, 51);
  check_outputs(*network, kVolume, false, {{-3.1457330, 9.2888843, -0.4867146, 1.6117901}}, 2e-5);
  check_outputs(*network, kVolume, true, {{-0.3046728, 0.7410411, -0.3844570, 0.7460074}}, 3e-5);
}

TEST_CASE("vnet_dycon: PyTorch's logits and embeddings, names and count") {
  const NetworkOptions options{.name = "vnet_dycon"};
  CHECK(parameter_count(options) == 9707236);
  const auto network = tagged_network(options, 33);
  const Variable x(tagged_image({2, 1, 32, 32, 32}, DType::f32));
  const NoGrad no_grad;
  // Numbers of tests/goldens/make_dycon_vnet.py.
  const NetworkOutput output = network->forward_all(x, {});
  check_summary("logits", output.logits, {0.3307458, 0.6031530, 0.0723542, 0.0826254}, 5e-6);
  check_summary("features", output.features, {-0.0041559, 0.1642468, 0.1751065, -0.1369380}, 5e-6);
  CHECK(output.features.shape() == Shape{2, 256, 4, 4, 4});
  CHECK(output.distance.value().to_doubles()[0] == doctest::Approx(std::tanh(0.0723542)).epsilon(1e-4));
  check_summary("features in training", network->forward_all(x, {true, nullptr}).features,
                {0.0000285, 1.4288984, 0.7434124, -1.0828465}, 5e-5);
  const std::vector<std::string> names = names_of(options);
  CHECK(names[names.size() - 8] == "out_conv2.weight");
  CHECK(names[names.size() - 6] == "projection.0.weight");
  CHECK(names.back() == "projection.2.bias");
}

TEST_CASE("two heads on the V-Net: the sigmoid of the foreground logit, tanh, and nothing else changed") {
  const auto network = tagged_network({.name = "vnet_sdf"}, 31);
  const auto plain = tagged_network({.name = "vnet", .classes = 1}, 30);
  const NoGrad no_grad;
  const Variable x(tagged_image(kVolume, DType::f32));
  const NetworkOutput output = network->forward_all(x, {});
  CHECK(output.logits.shape() == Shape{2, 2, 32, 32, 32});
  CHECK(output.distance.shape() == Shape{2, 1, 32, 32, 32});
  // The V-Net's one-channel head is convolution number 29 as well: the signed distance before tanh.
  const std::vector<double> map = output.distance.value().to_doubles(),
                            before = plain->forward(x, {}).value().to_doubles();
  double worst = 0;
  for (size_t i = 0; i < map.size(); ++i) worst = std::max(worst, std::abs(map[i] - std::tanh(before[i])));
  CHECK(worst < 1e-6);
  const std::vector<double> logits = output.logits.value().to_doubles();
  for (size_t i = 0; i < logits.size(); i += 2) CHECK_UNARY(logits[i] == 0);
  CHECK(network->forward(x, {}).value().to_doubles() == logits);
}

TEST_CASE("parameter counts are the papers'") {
  CHECK(parameter_count({.name = "mc_net"}) == 12347716);
  CHECK(parameter_count({.name = "mc_net_plus"}) == 15246566);
  CHECK(parameter_count({.name = "mc_net_2d", .classes = 4}) == 2577624);
  CHECK(parameter_count({.name = "mc_net_plus_2d", .classes = 4}) == 3210924);
  CHECK(parameter_count({.name = "cvbm"}) == 12340412);
  CHECK(parameter_count({.name = "cvbm_2d", .classes = 4}) == 2447136);
  CHECK(parameter_count({.name = "cvbm_2d", .classes = 2}) == 2446504);
  CHECK(parameter_count({.name = "vnet_sdf"}) == 9448866);
  CHECK(parameter_count({.name = "resvnet"}) == 17930354);
}

TEST_CASE("names of weights in files of the published code") {
  const std::vector<std::string> mc = names_of({.name = "mc_net_plus"});
  CHECK(mc.front() == "encoder.block_one.conv.0.weight");
  CHECK(contains(mc, "decoder1.block_five_up.conv.0.weight"));
  CHECK(contains(mc, "decoder2.block_five_up.conv.1.weight"));  // behind the interpolation
  CHECK(contains(mc, "decoder2.block_five_up.conv.2.weight"));
  CHECK(mc.back() == "decoder3.out_conv.bias");
  const std::vector<std::string> mc_2d = names_of({.name = "mc_net_2d"});
  CHECK(contains(mc_2d, "decoder1.up1.conv1x1.weight"));
  CHECK(contains(mc_2d, "decoder2.up1.up.weight"));
  const std::vector<std::string> cvbm = names_of({.name = "cvbm"});
  CHECK(contains(cvbm, "decoder1_bg.block_nine.conv.0.weight"));
  CHECK(contains(cvbm, "decoder1_bg.out_conv2.weight"));
  CHECK(contains(cvbm, "final_seg1.weight"));
  CHECK(cvbm.back() == "final_seg1_tanh.bias");
  const std::vector<std::string> residual = names_of({.name = "resvnet"});
  CHECK(residual.front() == "conv1.weight");
  CHECK(contains(residual, "layer2.0.downsample.1.bias"));
  CHECK(contains(residual, "block_five_up.conv.0.weight"));
}

TEST_CASE("gradients of small networks with all outputs, with dropout") {
  const Shape volume{2, 1, 32, 16, 16}, slices{2, 1, 1, 16, 32};
  check_network_gradient({.name = "mc_net_plus", .filters = 2}, volume);
  check_network_gradient({.name = "mc_net_plus_2d", .filters = 2}, slices);
  check_network_gradient({.name = "cvbm", .filters = 2}, volume);
  check_network_gradient({.name = "cvbm_2d", .filters = 2}, slices);
  check_network_gradient({.name = "vnet_sdf", .filters = 2}, volume);
  check_network_gradient({.name = "vnet_dycon", .filters = 2}, volume);
  check_network_gradient({.name = "resvnet", .filters = 1}, volume);
}

TEST_CASE("wrong options") {
  CHECK_THROWS_WITH_AS(make_network({.name = "vnet_sdf", .classes = 3}),
                       "classes: found 3, expected 2 for vnet_sdf", UsageError);
  CHECK_THROWS_WITH_AS(make_network({.name = "resvnet", .norm = "none"}),
                       "norm: found 'none', expected batchnorm for resvnet", UsageError);
}
