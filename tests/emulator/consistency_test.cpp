// Losses and kernels of the consistency methods, emulated, against the CPU.
#include "kernels/interpolate_samples.hpp"
#include "kernels/perturb.hpp"
#include "kernels/uncertainty.hpp"
#include "methods/cps.hpp"
#include "methods/em.hpp"
#include "methods/ict.hpp"
#include "methods/upc.hpp"
#include "methods/urpc.hpp"
#include "tests/emulator/compare.hpp"

using namespace semivox;

namespace {

/// The results of `loss(logits, device)` and the gradients of all logits.
template <class F>
void compare_loss(const std::vector<Tensor>& logits, const F& loss) {
  compare({1e-12, 2e-6}, [&](Device device) {  // from sums in f64; in f32
    std::vector<Variable> z;
    for (const Tensor& t : logits) z.emplace_back(t.to(device), true);
    const LossValue value = loss(z, device);
    value.loss.backward();
    std::vector<Tensor> written{value.results};
    for (const Variable& v : z) written.push_back(v.gradient());
    return written;
  });
}

}  // namespace

TEST_CASE("emulated consistency losses") {
  for (const int64_t classes : {2, 3, 4}) {
    CAPTURE(classes);
    const Shape shape{2, classes, 5, 23, 37};  // more voxels than one block adds up
    const Tensor logits = noise(shape, 1), teacher = noise(shape, 2), target = kernels::softmax(teacher);
    const Tensor decisions = labels(shape, 3, static_cast<int>(classes));
    using Inputs = std::vector<Variable>;
    compare_loss({logits}, [&](const Inputs& z, Device d) {
      return confident_pseudo_labels(z[0], teacher.to(d), 0.45, 0.9);
    });
    compare_loss({logits}, [&](const Inputs& z, Device d) { return logit_distance(z[0], teacher.to(d)); });
    compare_loss({logits}, [](const Inputs& z, Device) { return normalized_entropy(z[0]); });
    compare_loss({logits},
                 [&](const Inputs& z, Device d) { return label_cross_entropy(z[0], decisions.to(d)); });
    compare_loss({logits}, [&](const Inputs& z, Device d) { return distance_to_target(z[0], target.to(d)); });
    compare_loss({logits, teacher, noise(shape, 4), noise(shape, 5)},
                 [](const Inputs& z, Device) { return pyramid_consistency(z); });
  }
}

TEST_CASE("emulated interpolation of samples and perturbations of feature maps") {
  const Shape shape{3, 5, 1, 61, 43};
  const Tensor a = noise(shape, 1), b = noise(shape, 2);
  compare({0}, [&](Device d) {
    return std::vector{kernels::interpolate_samples(a.to(d), b.to(d), {0.0, 0.3, 1.0})};
  });
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Tensor x = noise(shape, 3, dtype);
    compare({0}, [&](Device d) {
      const Tensor mask = kernels::weak_positions(x.to(d), 0.8);
      return std::vector{mask, kernels::mask_positions(x.to(d), mask),
                         kernels::scale_by_noise(x.to(d), 0.3, {7, 1, 2})};
    });
  }
}
