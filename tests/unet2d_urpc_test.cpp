// URPC's 2D U-Net against PyTorch's numbers, its names and counts, and the perturbations of its heads.

#include "layers/unet2d_urpc.hpp"

#include <doctest/doctest.h>

#include "tests/network_check.hpp"

using namespace semivox;
using namespace semivox::testing;

namespace {

const NetworkOptions kOptions{.name = "unet2d_urpc", .classes = 4};

NetworkOutput outputs(Network& network, const Pass& pass) {
  return network.forward_all(Variable(tagged_image({2, 1, 1, 64, 64}, DType::f32)), pass);
}

}  // namespace

TEST_CASE("unet2d_urpc: PyTorch's logits of four heads, without perturbations") {
  const auto network = tagged_network(kOptions, 27);
  const NoGrad no_grad;
  const auto check = [&](const char* mode, const Pass& pass, const std::vector<Summary>& expected) {
    INFO(mode);
    const NetworkOutput output = outputs(*network, pass);
    REQUIRE(output.auxiliary.size() == 3);
    check_summary("logits", output.logits, expected[0], 2e-5);
    for (size_t k = 0; k < 3; ++k) {
      CHECK(output.auxiliary[k].shape() == output.logits.shape());
      check_summary(text("auxiliary ", k), output.auxiliary[k], expected[k + 1], 2e-5);
    }
  };
  check("evaluation", {},
        {{-1.6201684, 3.6246194, 1.7074928, -0.1578387},
         {-0.3760330, 5.0887555, 1.2145776, 3.8133368},
         {-1.2870113, 3.5387919, 0.3173056, 0.6779993},
         {1.1373483, 2.5386117, 0.7848738, 3.4026966}});
  CHECK(network->forward(Variable(tagged_image({2, 1, 1, 64, 64}, DType::f32)), {}).value().to_doubles() ==
        outputs(*network, {}).logits.value().to_doubles());
  check("training", {true, nullptr},
        {{-0.0684529, 0.9452888, -0.0673096, 0.4003407},
         {0.0521007, 0.8542964, 0.0206909, 0.8361971},
         {-0.3553180, 0.9354902, -0.4263750, -0.0327943},
         {0.0452776, 0.9470586, 0.2259556, 0.3305702}});
}

TEST_CASE("unet2d_urpc: parameter count, names and order") {
  CHECK(parameter_count(kOptions) == 1831060);
  const auto network = make_network(kOptions);
  CHECK(network->options().dropout == 0.5);
  std::vector<std::string> names;
  for (const Parameter& p : network->parameters().parameters()) names.push_back(p.name);
  REQUIRE(names.size() == 90);
  CHECK(names[80] == "decoder.out_conv.weight");
  for (const size_t k : {0, 1, 2, 3}) {
    CHECK(names[82 + 2 * k] == text("decoder.out_conv_dp", 4 - k, ".weight"));
    CHECK(network->parameters().parameters()[82 + 2 * k].dims ==
          std::vector<int64_t>{4, int64_t{256} >> k, 3, 3});
  }
}

TEST_CASE("unet2d_urpc: training perturbs what the coarse heads see, and nothing else") {
  NetworkOptions options{.name = "unet2d_urpc", .classes = 4, .filters = 4, .dropout = 1e-12};
  const auto perturbed = make_network(options);
  options.dropout = 0;
  const auto plain = make_network(options);
  for (Network* network : {perturbed.get(), plain.get()}) {
    network->allocate(DType::f32, {}, false);
    fill_by_tags(network->parameters());
  }
  const NoGrad no_grad;
  const auto train = [](Network& network, uint64_t seed) {
    Random random(seed, 1);
    const NetworkOutput output = outputs(network, {true, &random});
    std::vector<std::vector<double>> values{output.logits.value().to_doubles()};
    for (const Variable& logits : output.auxiliary) values.push_back(logits.value().to_doubles());
    return values;
  };
  // Before training changes the running statistics.
  CHECK(outputs(*perturbed, {}).auxiliary[2].value().to_doubles() ==
        outputs(*plain, {}).auxiliary[2].value().to_doubles());
  const auto once = train(*perturbed, 1), again = train(*perturbed, 1), other = train(*perturbed, 2),
             without = train(*plain, 1);
  CHECK(once == again);
  CHECK(once[0] == without[0]);  // too rare a dropout in the encoder to be drawn
  for (size_t k = 1; k < 4; ++k) {
    INFO("head ", k);
    CHECK(once[k] != without[k]);
    CHECK(once[k] != other[k]);
  }
}

TEST_CASE("unet2d_urpc: gradients of a small network, perturbed") {
  check_network_gradient({.name = "unet2d_urpc", .classes = 4, .filters = 2}, {2, 1, 1, 32, 48});
}
