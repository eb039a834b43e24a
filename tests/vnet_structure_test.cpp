// The V-Nets as modules: parameter names and counts, first values, gradients of small networks by central
// differences, dropout, teachers, and the options that they refuse.

#include <doctest/doctest.h>

#include <random>

#include "layers/vnet.hpp"
#include "methods/supervised_loss.hpp"
#include "tests/gradients.hpp"
#include "tests/vnet_weights.hpp"

using namespace semivox;
using namespace semivox::testing;

namespace {

/// Directions of size `scale` for all parameters of a network.
std::vector<Tensor> random_directions(const ParameterSet& set, uint32_t seed) {
  std::vector<Tensor> directions;
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  for (const Parameter& p : set.parameters()) {
    directions.push_back(Tensor::empty({1, p.count, 1, 1, 1}, DType::f64, {}));
    assign(directions.back(), [&](uint32_t) { return normal(generator); });
  }
  return directions;
}

/// Gradients of a small network in f64: all parameters along random directions, and the input's elements.
void check_network_gradient(const NetworkOptions& options, Shape shape) {
  INFO(options.name, " ", options.norm, std::string(options.residual ? " residual" : ""), " dropout ",
       options.dropout);
  const auto network = make_network(options);
  network->allocate(DType::f64, {}, true);
  ParameterSet& set = network->parameters();
  fill_weights(set);
  const Variable x(Tensor::empty(shape, DType::f64, {}), true);
  assign(x.value(), [](uint32_t i) { return std::sin(0.7 * i) + hash_noise(i, 1); });
  const Tensor labels = Tensor::empty(shape.with_channels(1), DType::u8, {});
  for (int64_t i = 0; i < labels.elements(); ++i) labels.data<uint8_t>()[i] = i % 7 < 3;
  const auto loss = [&] {
    set.touch();
    const NoGrad no_grad;
    Random random(8, 9);
    return supervised_loss(network->forward(x, {true, &random}), labels, true).loss.value().data<double>()[0];
  };
  Random random(8, 9);
  supervised_loss(network->forward(x, {true, &random}), labels, true).loss.backward();
  std::vector<Tensor> values, gradients;
  for (const Parameter& p : set.parameters()) {
    values.push_back(p.value);
    gradients.push_back(p.gradient);
  }
  // A direction moves every activation at once: only a very small step stays clear of all kinks.
  for (const uint32_t seed : {1u, 2u})
    check_directional_gradient("parameters", values, gradients, random_directions(set, seed), loss,
                               {.step = 1e-8, .tolerance = 1e-5, .floor = 1e-3});
  check_gradient("input", x.value(), x.gradient(), loss,
                 {.step = 1e-6, .tolerance = 2e-6, .floor = 1e-3, .elements = 4});
}

int64_t count_of(const NetworkOptions& options) {
  return make_network(options)->parameters().parameter_count();
}

}  // namespace

TEST_CASE("parameter counts are the literature's") {
  CHECK(count_of({.norm = "batchnorm"}) == 9448866);
  CHECK(count_of({.norm = "none"}) == 9443266);
  CHECK(count_of({.norm = "instancenorm"}) == 9443266);
  CHECK(count_of({.norm = "groupnorm"}) == 9448866);
  CHECK(count_of({.classes = 1}) == 9448849);
  CHECK(count_of({.classes = 4}) == 9448900);
  CHECK(count_of({.residual = true}) == 9448866);
  const auto original = make_network({.name = "vnet_original", .norm = "none", .dropout = 0});
  CHECK(original->parameters().parameter_count() == 65175314);
  int64_t slopes = 0;
  for (const Parameter& p : original->parameters().parameters())
    if (ends_with(p.name, ".slope")) slopes += p.count;
  CHECK(65175314 - slopes == 65171858);
}

TEST_CASE("names, shapes and order are those of PyTorch's module") {
  const std::pair<const char*, int> blocks[] = {
      {"block_one", 1},   {"block_one_dw", 1},   {"block_two", 2},   {"block_two_dw", 1},
      {"block_three", 3}, {"block_three_dw", 1}, {"block_four", 3},  {"block_four_dw", 1},
      {"block_five", 3},  {"block_five_up", 1},  {"block_six", 3},   {"block_six_up", 1},
      {"block_seven", 3}, {"block_seven_up", 1}, {"block_eight", 2}, {"block_eight_up", 1},
      {"block_nine", 1}};
  for (const std::string norm : {"batchnorm", "groupnorm", "instancenorm", "none"}) {
    INFO(norm);
    const bool affine = norm == "batchnorm" || norm == "groupnorm";
    std::vector<std::string> expected, buffers;
    for (const auto& [block, count] : blocks) {
      for (int i = 0; i < count; ++i) {
        const int child = i * (norm == "none" ? 2 : 3);  // of the Sequential: conv, norm, ReLU
        const std::string conv = text(block, ".conv.", child), after = text(block, ".conv.", child + 1);
        expected.insert(expected.end(), {conv + ".weight", conv + ".bias"});
        if (affine) expected.insert(expected.end(), {after + ".weight", after + ".bias"});
        if (norm == "batchnorm")
          buffers.insert(buffers.end(),
                         {after + ".running_mean", after + ".running_var", after + ".num_batches_tracked"});
      }
    }
    expected.insert(expected.end(), {"out_conv.weight", "out_conv.bias"});
    const auto network = make_network({.norm = norm});
    std::vector<std::string> found, found_buffers;
    for (const Parameter& p : network->parameters().parameters()) found.push_back(p.name);
    for (const Parameter& p : network->parameters().buffers()) found_buffers.push_back(p.name);
    CHECK(found == expected);
    CHECK(found_buffers == buffers);
    CHECK(found.size() == (affine ? 118 : 60));
  }
  using Dims = std::vector<int64_t>;
  const auto network = make_network({});
  const std::deque<Parameter>& list = network->parameters().parameters();
  CHECK(named(list, "block_one.conv.0.weight").dims == Dims{16, 1, 3, 3, 3});
  CHECK(named(list, "block_two_dw.conv.0.weight").dims == Dims{64, 32, 2, 2, 2});
  CHECK(named(list, "block_five_up.conv.0.weight").dims == Dims{256, 128, 2, 2, 2});
  CHECK(named(list, "block_five.conv.7.bias").dims == Dims{256});
  CHECK(named(list, "out_conv.weight").dims == Dims{2, 16, 1, 1, 1});
  CHECK(network->parameters().buffers().size() == 87);
  CHECK(named(network->parameters().buffers(), "block_one.conv.1.num_batches_tracked").dims.empty());
}

TEST_CASE("first values have PyTorch's bounds") {
  const auto network = make_network({});
  network->allocate(DType::f32, {}, false);
  network->parameters().initialize(1337);
  const auto bound = [&](const char* name) {
    double largest = 0;
    for (const double v : named(network->parameters().parameters(), name).value.to_doubles())
      largest = std::max(largest, std::abs(v));
    return largest;
  };
  const auto check = [&](const char* name, double fan) {
    INFO(std::string(name));
    CHECK(bound(name) <= 1 / std::sqrt(fan));
    CHECK(bound(name) > 0.999 / std::sqrt(fan));
  };
  check("block_two.conv.0.weight", 32 * 27);
  check("block_four_dw.conv.0.weight", 128 * 8);
  check("block_five_up.conv.0.weight", 128 * 8);  // PyTorch takes the fan of a transposed one from axis 1
  CHECK(bound("block_five.conv.0.bias") <= 1 / std::sqrt(256 * 27.0));
  CHECK(bound("block_five.conv.0.bias") > 0.9 / std::sqrt(256 * 27.0));
  CHECK(bound("block_five.conv.1.weight") == 1);
  CHECK(bound("block_five.conv.1.bias") == 0);
}

TEST_CASE("gradients of small networks: every norm, residual stages, dropout, the original V-Net") {
  const Shape shape{2, 1, 32, 16, 16};
  check_network_gradient({.filters = 2, .norm = "batchnorm", .dropout = 0}, shape);
  check_network_gradient({.filters = 2, .norm = "batchnorm", .dropout = 0.5, .residual = true}, shape);
  check_network_gradient({.classes = 3, .filters = 2, .norm = "instancenorm", .dropout = 0.5}, shape);
  check_network_gradient({.in_channels = 2, .filters = 2, .norm = "none", .dropout = 0.5, .residual = true},
                         shape.with_channels(2));
  check_network_gradient({.name = "vnet_original", .filters = 2, .norm = "none", .dropout = 0},
                         {1, 1, 16, 16, 32});
}

TEST_CASE("dropout before the output layer drops whole channels and doubles the others") {
  // The output layer shows the channels as they are, and the deepest stage with its own dropout is cut off.
  const auto network = make_network({.classes = 16, .norm = "none", .dropout = 0.5});
  network->allocate(DType::f32, {}, true);
  ParameterSet& set = network->parameters();
  fill_weights(set);
  const auto assign_named = [&](const char* name, const auto& f) {
    assign(named(set.parameters(), name).value, f);
  };
  assign_named("block_five_up.conv.0.weight", [](uint32_t) { return 0.0; });
  assign_named("out_conv.weight", [](uint32_t i) { return i % 17 == 0 ? 1.0 : 0.0; });
  assign_named("out_conv.bias", [](uint32_t) { return 0.0; });
  // A dead channel could not be told from a dropped one.
  assign_named("block_nine.conv.0.bias", [](uint32_t) { return 3.0; });
  set.touch();
  const Shape shape{8, 1, 16, 16, 16};
  const Variable x(Tensor::empty(shape, DType::f32, {}));
  assign(x.value(), [](uint32_t i) { return hash_noise(i, 3); });
  const NoGrad no_grad;
  const auto run = [&](bool training, uint64_t step) {
    Random random(17, step);
    return network->forward(x, {training, &random}).value().to_doubles();
  };
  const std::vector<double> whole = run(false, 0), thinned = run(true, 0);
  int dropped = 0;
  for (size_t n = 0; n < 8; ++n) {
    for (size_t c = 0; c < 16; ++c) {
      double factor = -1;
      bool same = true;
      for (size_t v = 0; v < 4096; ++v) {
        const size_t i = (n * 4096 + v) * 16 + c;
        if (whole[i] == 0) continue;
        if (factor < 0) factor = thinned[i] == 0 ? 0 : 2;
        same = same && std::abs(thinned[i] - factor * whole[i]) <= 1e-5 * std::abs(whole[i]);
      }
      CHECK(same);
      REQUIRE(factor >= 0);
      dropped += factor == 0;
    }
  }
  CHECK(std::abs(dropped - 64) < 5 * std::sqrt(32.0));
  CHECK(run(true, 0) == thinned);
  CHECK(run(true, 1) != thinned);
  CHECK(run(false, 1) == whole);
}

TEST_CASE("a teacher computes what its student computes, and records nothing") {
  const auto student = make_network({.filters = 2}), teacher = make_network({.filters = 2});
  student->allocate(DType::f32, {}, true);
  teacher->allocate(DType::f32, {}, false);
  student->parameters().initialize(3);
  teacher->parameters().copy_from(student->parameters());
  const Variable x(Tensor::empty({2, 1, 16, 16, 16}, DType::f32, {}));
  assign(x.value(), [](uint32_t i) { return hash_noise(i, 3); });
  Random random(1, 1), same(1, 1);
  const Variable a = student->forward(x, {true, &random}), b = teacher->forward(x, {true, &same});
  CHECK(a.value().to_doubles() == b.value().to_doubles());
  CHECK(a.needs_gradient());
  CHECK_FALSE(b.needs_gradient());
}

TEST_CASE("sizes and options that do not fit are usage errors that name them") {
  const auto network = make_network({.filters = 2, .dropout = 0});
  network->allocate(DType::f32, {}, false);
  const Variable wrong(Tensor::zeros({1, 1, 32, 24, 16}, DType::f32, {}));
  CHECK_THROWS_WITH_AS(network->forward(wrong, {}),
                       "network vnet: patch 32x24x16, expected multiples of 16x16x16", UsageError);
  const auto refuses = [](const NetworkOptions& options, const char* part) {
    CHECK_THROWS_WITH_AS(make_network(options), doctest::Contains(part), UsageError);
  };
  refuses({.name = "wnet"}, "network: found 'wnet', expected one of vnet, ");
  refuses({.in_channels = 0}, "in_channels: found 0");
  refuses({.classes = 0}, "classes: found 0, expected 1 to 16");
  refuses({.classes = 17}, "classes: found 17");
  refuses({.filters = 0}, "filters: found 0");
  refuses({.filters = 8, .norm = "groupnorm"}, "filters: found 8, expected a multiple of 16 for groupnorm");
  refuses({.norm = "layernorm"},
          "norm: found 'layernorm', expected auto, none, batchnorm, groupnorm or instancenorm");
  refuses({.dropout = 1}, "dropout: found 1");
  refuses({.dropout = -0.1}, "dropout: found -0.1");
  refuses({.in_channels = 3, .residual = true}, "in_channels: found 3, expected 1 or 16 with residual");
  refuses({.name = "vnet_original", .norm = "batchnorm", .dropout = 0}, "expected none for vnet_original");
  refuses({.name = "vnet_original", .norm = "none", .dropout = 0.5}, "expected 0 for vnet_original");
  refuses({.name = "vnet_original", .in_channels = 3, .norm = "none", .dropout = 0},
          "in_channels: found 3, expected 1 or 16");
}
