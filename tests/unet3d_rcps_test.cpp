// RCPS's U-Net against PyTorch's numbers in f32: all outputs in evaluation and training, counts, names;
// gradients of a small network by central differences.

#include <doctest/doctest.h>

#include "layers/resize.hpp"
#include "tests/network_check.hpp"

using namespace semivox;
using namespace semivox::testing;

TEST_CASE("RCPS: PyTorch's logits of four resolutions, embeddings and their logits") {
  const auto network = tagged_network({.name = "unet3d_rcps"}, 33);
  const Variable x(tagged_image({2, 1, 32, 32, 32}, DType::f32));
  const NoGrad no_grad;
  const NetworkOutput output = network->forward_all(x, {});
  check_summary("out", output.logits, {2.3123646, 3.4680428, 2.2344637, 6.6635976}, 1e-5);
  REQUIRE(output.auxiliary.size() == 3);
  check_summary("level1", output.auxiliary[0], {-2.3200486, 2.6401235, 0.8702239, -5.7821469}, 1e-5);
  check_summary("level2", output.auxiliary[1], {-1.4706360, 5.2010349, 5.4603910, -7.7778673}, 3e-5);
  check_summary("level3", output.auxiliary[2], {-0.4957705, 2.2819809, 0.5830590, -0.6860881}, 3e-5);
  check_summary("project", output.features, {1.1393645, 5.2962113, -1.1803082, 3.3546143}, 1e-5);
  CHECK(output.features.shape() == Shape{2, 64, 8, 8, 8});
  check_summary("project_map", resize(output.logits, {8, 8, 8}, kernels::Interpolation::linear),
                {2.3961696, 3.2983631, 0.4779530, 7.7064466}, 1e-5);
  CHECK(network->forward(x, {}).value().to_doubles() == output.logits.value().to_doubles());
  const NetworkOutput training = network->forward_all(x, {true, nullptr});
  check_summary("out in training", training.logits, {-0.1260608, 1.3692613, 0.0366077, -0.5145271}, 3e-5);
  check_summary("project in training", training.features, {0.0032562, 1.3819616, -1.2140670, -1.5742011},
                3e-5);
}

TEST_CASE("RCPS: parameter count, names and order, one slope per PReLU") {
  CHECK(parameter_count({.name = "unet3d_rcps"}) == 6004603);
  const auto network = make_network({.name = "unet3d_rcps"});
  const std::deque<Parameter>& parameters = network->parameters().parameters();
  const char* first[] = {"backbone.conv0_0.act.weight",        "backbone.conv0_0.conv1.act.weight",
                         "backbone.conv0_0.conv1.conv.weight", "backbone.conv0_0.conv1.norm.weight",
                         "backbone.conv0_0.conv1.norm.bias",   "backbone.conv0_0.conv2.conv.weight",
                         "backbone.conv0_0.conv2.norm.weight", "backbone.conv0_0.conv2.norm.bias",
                         "backbone.conv0_0.id.conv.weight",    "backbone.conv0_0.id.norm.weight"};
  for (size_t i = 0; i < std::size(first); ++i) CHECK(parameters[i].name == first[i]);
  CHECK(parameters[0].count == 1);
  CHECK(parameters[parameters.size() - 3].name == "projector.1.weight");
  CHECK(parameters.back().name == "projector.2.bias");
}

TEST_CASE("RCPS: gradients of a small network with all outputs") {
  check_network_gradient({.name = "unet3d_rcps", .filters = 2}, {2, 1, 32, 16, 16});
}

TEST_CASE("RCPS: wrong options") {
  CHECK_THROWS_WITH_AS(make_network({.name = "unet3d_rcps", .dropout = 0.5}),
                       "dropout: found 0.5, expected 0 for unet3d_rcps", UsageError);
}
