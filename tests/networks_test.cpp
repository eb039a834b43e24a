// What holds for every network that can be chosen by name: bf16 near f32, training gradients that are finite,
// the same bits for one and two threads.

#include <doctest/doctest.h>

#include "engine/memory.hpp"
#include "methods/supervised_loss.hpp"
#include "tests/network_check.hpp"

using namespace semivox;
using namespace semivox::testing;

namespace {

std::unique_ptr<Network> small_network(const std::string& name, DType precision, bool trainable) {
  auto network = make_network({.name = name, .filters = 4});
  network->allocate(precision, {}, trainable);
  fill_by_tags(network->parameters());
  return network;
}

Shape small_shape(const Network& network) {
  return network.divisor()[0] == 1 ? Shape{2, 1, 1, 32, 48} : Shape{2, 1, 32, 32, 32};
}

std::vector<double> logits_of(Network& network) {
  const NoGrad no_grad;
  const Variable x(tagged_image(small_shape(network), DType::f32));
  const Variable logits = network.forward(x, {});
  CHECK(logits.shape() == small_shape(network).with_channels(2));
  CHECK(logits.value().dtype() == DType::f32);
  return logits.value().to_doubles();
}

/// Of all logits that the network gives, in training with dropout.
Variable training_loss(Network& network) {
  const Shape shape = small_shape(network);
  const Tensor labels = Tensor::empty(shape, DType::u8, {});
  for (int64_t i = 0; i < labels.elements(); ++i) labels.data<uint8_t>()[i] = i % 7 < 3;
  Random random(1, 2);
  const NetworkOutput output =
      network.forward_all(Variable(tagged_image(shape, DType::f32)), {true, &random});
  Variable loss = supervised_loss(output.logits, labels, true).loss;
  for (const Variable& logits : output.auxiliary) {
    CHECK(logits.shape() == output.logits.shape());
    loss = loss + supervised_loss(logits, labels, true).loss;
  }
  return loss;
}

double root_mean_square(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v * v;
  return std::sqrt(sum / static_cast<double>(values.size()));
}

}  // namespace

TEST_CASE("every network: bf16 stays near f32") {
  for (const std::string& name : network_names()) {
    INFO(name);
    const auto network = small_network(name, DType::f32, false);
    const std::vector<double> exact = logits_of(*network);
    std::vector<double> difference = logits_of(*small_network(name, DType::bf16, false));
    for (size_t i = 0; i < exact.size(); ++i) difference[i] -= exact[i];
    // Instance norm over the eight voxels of the deepest level amplifies what rounding left of them.
    const double limit = network->options().norm == "instancenorm" ? 0.1 : 0.03;
    CHECK(root_mean_square(difference) / root_mean_square(exact) < limit);
  }
}

TEST_CASE("every network: training gives finite gradients") {
  for (const std::string& name : network_names()) {
    for (const DType precision : {DType::f32, DType::bf16}) {
      INFO(name, " in ", std::string(name_of(precision)));
      const auto network = small_network(name, precision, true);
      training_loss(*network).backward();
      double sum = 0;
      for (const double g : network->parameters().gradients().to_doubles()) sum += std::abs(g);
      CHECK(std::isfinite(sum));
      const Parameter& first = network->parameters().parameters().front();
      CHECK(root_mean_square(first.gradient.to_doubles()) > 0);
    }
  }
}

TEST_CASE("every network: recomputing gives the same bits, and a V-Net keeps half") {
  const auto gradients = [](const std::string& name, bool recompute, int64_t* kept) {
    const auto network = make_network({.name = name, .filters = 4, .recompute = recompute});
    network->allocate(DType::f32, {}, true);
    fill_by_tags(network->parameters());
    network->parameters().zero_gradients();
    const int64_t before = memory_statistics({}).live[static_cast<size_t>(MemoryTag::activations)];
    const Variable loss = training_loss(*network);
    *kept = memory_statistics({}).live[static_cast<size_t>(MemoryTag::activations)] - before;
    loss.backward();
    return network->parameters().gradients().to_doubles();
  };
  for (const std::string& name : network_names()) {
    INFO(name);
    int64_t kept = 0, all = 0;
    CHECK(gradients(name, true, &kept) == gradients(name, false, &all));
    CHECK(kept <= all);
    if (name == "vnet") CHECK(kept < 0.6 * static_cast<double>(all));
  }
}

TEST_CASE("every network: one and two threads give the same bits") {
  const int threads = thread_count();
  for (const std::string& name : network_names()) {
    INFO(name);
    const auto network = small_network(name, DType::f32, false);
    set_thread_count(1);
    const std::vector<double> one = logits_of(*network);
    set_thread_count(2);
    CHECK(logits_of(*network) == one);
    set_thread_count(threads);
  }
}
