// Signed distance maps and the losses that use them, emulated, against the CPU.
#include "kernels/signed_distance.hpp"
#include "methods/dtc.hpp"
#include "methods/sassnet.hpp"
#include "tests/emulator/compare.hpp"

using namespace semivox;

namespace {

/// The results of `loss(inputs, device)` and the gradients of the inputs.
template <class F>
void compare_loss(const std::vector<Tensor>& inputs, double tolerance, const F& loss) {
  compare({1e-12, tolerance}, [&](Device device) {
    std::vector<Variable> variables;
    for (const Tensor& input : inputs) variables.emplace_back(input.to(device), true);
    const LossValue value = loss(variables, device);
    value.loss.backward();
    std::vector<Tensor> written{value.results};  // from sums in f64; the gradients in f32
    for (const Variable& variable : variables) written.push_back(variable.gradient());
    return written;
  });
}

}  // namespace

TEST_CASE("emulated signed distance maps: the same bits") {
  for (const Shape& shape : {Shape{3, 1, 9, 11, 13}, Shape{2, 1, 1, 33, 20}, Shape{1, 1, 17, 1, 5}}) {
    for (const double share : {0.0, 0.1, 0.6, 1.1}) {
      CAPTURE(shape.str());
      CAPTURE(share);
      const Tensor y = labels(shape, 3, 2, share);
      compare({0}, [&](Device device) { return std::vector{kernels::signed_distance(y.to(device))}; });
    }
  }
}

TEST_CASE("emulated losses with signed distance maps") {
  const Shape shape{4, 1, 5, 23, 37};  // more voxels than one block adds up
  const Tensor logit = noise(shape, 1), map = noise(shape, 2), y = labels(shape.with_samples(2), 3, 2);
  const Tensor target = kernels::signed_distance(y);
  for (const double steepness : {3.0, 1500.0}) {
    compare_loss({logit, map}, 1e-6, [&](const std::vector<Variable>& v, Device d) {
      return dtc_loss(v[0], v[1], y.to(d), target.to(d), 0.7, {0.3, steepness});
    });
  }
  compare_loss({logit, map}, 1e-6, [&](const std::vector<Variable>& v, Device d) {
    return sassnet_supervised_loss(v[0], v[1], y.to(d), target.to(d), 0.3);
  });
  compare_loss({noise({5, 2, 1, 1, 1}, 4)}, 1e-6,
               [](const std::vector<Variable>& v, Device) { return discriminator_loss(v[0], 2); });
}
