// The 3D U-Nets against PyTorch's numbers in f32: names, parameter counts, all outputs; gradients of small
// networks by central differences.

#include "layers/unet3d.hpp"

#include <doctest/doctest.h>

#include "tests/network_check.hpp"

using namespace semivox;
using namespace semivox::testing;

namespace {

const Shape kInput{2, 1, 32, 32, 32};

std::vector<std::string> names_of(const NetworkOptions& options) {
  const auto network = make_network(options);
  std::vector<std::string> names;
  for (const Parameter& p : network->parameters().parameters()) names.push_back(p.name);
  return names;
}

/// Reference networks were run in f32 as well.
constexpr double kTolerance = 5e-6;

}  // namespace

TEST_CASE("unet3d: PyTorch's logits, the same in training and evaluation") {
  const auto network = tagged_network({.name = "unet3d"}, 19);
  const Variable x(tagged_image(kInput, DType::f32));
  const NoGrad no_grad;
  for (const bool training : {false, true}) {
    check_summary("logits", network->forward(x, {training, nullptr}),
                  {-0.8899908, 1.0402225, -0.2452971, -0.7665797}, kTolerance);
  }
}

TEST_CASE("unet3d_ds: PyTorch's logits of four resolutions") {
  const auto network = tagged_network({.name = "unet3d_ds"}, 22);
  const NoGrad no_grad;
  const NetworkOutput output = network->forward_all(Variable(tagged_image(kInput, DType::f32)), {});
  check_summary("1", output.logits, {-0.1282617, 1.0133753, 0.2242099, -0.5443689}, kTolerance);
  REQUIRE(output.auxiliary.size() == 3);
  check_summary("1/2", output.auxiliary[0], {-0.1638962, 0.5616818, -0.9460359, -1.3863194}, kTolerance);
  check_summary("1/4", output.auxiliary[1], {-0.2448638, 0.7755247, 0.7177798, -1.3185526}, kTolerance);
  check_summary("1/8", output.auxiliary[2], {-0.6654907, 0.8645759, -0.7885180, -0.1849440}, kTolerance);
}

TEST_CASE("unet3d_dycon: PyTorch's logits, tanh map and features") {
  const auto network = tagged_network({.name = "unet3d_dycon"}, 22);
  const Variable x(tagged_image(kInput, DType::f32));
  const NoGrad no_grad;
  const NetworkOutput output = network->forward_all(x, {});
  check_summary("tanh", output.distance, {-0.4870960, 0.4654257, -0.2404928, -0.6449362}, kTolerance);
  check_summary("logits", output.logits, {0.0879032, 0.8561838, 0.1487829, -0.4375723}, kTolerance);
  check_summary("features", output.features, {-0.0025964, 0.7693166, 0.8082568, -0.8116125}, 1e-5);
  CHECK(output.features.shape() == Shape{2, 256, 4, 4, 4});
  check_summary("features in training", network->forward_all(x, {true, nullptr}).features,
                {0.0, 0.9999918, 0.1770870, -0.6515453}, 5e-5);
}

TEST_CASE("3D U-Nets: parameter counts, names and order, published options") {
  CHECK(parameter_count({.name = "unet3d"}) == 5884050);
  CHECK(parameter_count({.name = "unet3d_ds"}) == 5884504);
  CHECK(parameter_count({.name = "unet3d_dycon"}) == 6148532);
  CHECK(make_network({.name = "unet3d"})->options().norm == "instancenorm");
  CHECK(make_network({.name = "unet3d"})->options().dropout == 0.3);
  CHECK(make_network({.name = "unet3d_ds"})->options().dropout == 0.5);
  const std::vector<std::string> names = names_of({.name = "unet3d"});
  REQUIRE(names.size() == 38);
  CHECK(names[0] == "conv1.conv1.0.weight");
  CHECK(names[3] == "conv1.conv2.0.bias");
  CHECK(names[16] == "center.conv1.0.weight");
  CHECK(names[20] == "up_concat4.conv.conv1.0.weight");
  CHECK(names[36] == "final.weight");
  const std::vector<std::string> heads = names_of({.name = "unet3d_ds"});
  CHECK(heads[36] == "dsv4.dsv.0.weight");
  CHECK(heads[42] == "dsv1.weight");
  const std::vector<std::string> contrast = names_of({.name = "unet3d_dycon"});
  CHECK(contrast[38] == "out_conv2.weight");
  CHECK(contrast[40] == "projection.0.weight");
  CHECK(contrast.size() == 48);
}

TEST_CASE("3D U-Nets start with Kaiming's normal weights") {
  const auto network = make_network({.name = "unet3d"});
  network->allocate(DType::f32, {}, false);
  network->parameters().initialize(5);
  for (const Parameter& p : network->parameters().parameters()) {
    if (p.count < 50000) continue;
    double square = 0;
    for (const double v : p.value.to_doubles()) square += v * v / static_cast<double>(p.count);
    CHECK(square == doctest::Approx(2.0 / static_cast<double>(p.count / p.dims[0])).epsilon(0.03));
  }
}

TEST_CASE("3D U-Nets: gradients of small networks, with dropout") {
  const Shape shape{2, 1, 32, 16, 16};
  check_network_gradient({.name = "unet3d", .filters = 2}, shape);
  check_network_gradient({.name = "unet3d_ds", .classes = 3, .filters = 2}, shape);
  check_network_gradient({.name = "unet3d_dycon", .filters = 2}, shape);
}
