#include "layers/unet2d_urpc.hpp"

#include "kernels/perturb.hpp"
#include "layers/resize.hpp"

namespace semivox {

namespace {

constexpr double kHeadDropout = 0.5;
constexpr double kLowestRatio = 0.7, kHighestRatio = 0.9;  // of the strongest position that survives
constexpr double kNoiseBound = 0.3;

/// Takes away the positions whose mean over the channels is at least `ratio` of the sample's largest.
Variable drop_strongest(const Variable& x, StepNumber ratio) {
  const Tensor mask = kernels::weak_positions(x.value(), ratio);
  const Variable input = x.for_backward();
  return Variable::result(
      kernels::mask_positions(x.value(), mask), {x}, false,
      [=](const Tensor& dy) { input.add_gradient(kernels::mask_positions(dy, mask)); },
      [=] { return kernels::mask_positions(input.value(), mask); });
}

Variable scale_by_noise(const Variable& x, double bound, const RandomStream& random) {
  const Variable input = x.for_backward();
  return Variable::result(
      kernels::scale_by_noise(x.value(), bound, random), {x}, false,
      [=](const Tensor& dy) { input.add_gradient(kernels::scale_by_noise(dy, bound, random)); },
      [=] { return kernels::scale_by_noise(input.value(), bound, random); });
}

}  // namespace

UNet2DPyramid::UNet2DPyramid(const NetworkOptions& options)
    : Network(options),
      encoder_(parameters_, "encoder.", options),
      decoder_(parameters_, "decoder.", options),
      out_conv_(declare_unet2d_head(parameters_, "decoder.", options)) {
  for (int level = 4; level >= 1; --level) {
    heads_.push_back(declare_conv(parameters_, text("decoder.out_conv_dp", level),
                                  same_conv_2d(options.filters << level, options.classes, 3), 2));
  }
}

Variable UNet2DPyramid::perturbed(const Variable& features, size_t step, const Pass& pass) const {
  if (!pass.training || options_.dropout == 0) return features;
  if (step == 0) return dropout(features, pass, kHeadDropout);
  SEMIVOX_CHECK(pass.random != nullptr, "a training pass with perturbations needs random numbers");
  const RandomStream random = pass.random->next();
  if (step == 2) return scale_by_noise(features, kNoiseBound, random);
  const StepNumber ratio = step_value([random] {
    return kLowestRatio + (kHighestRatio - kLowestRatio) * static_cast<double>(random.now().uniform(0));
  });
  return drop_strongest(features, ratio);
}

Variable UNet2DPyramid::run(const Variable& x, const Pass& pass) {
  return conv(decoder_(encoder_(x, pass, options_.dropout), pass), out_conv_, true);
}

NetworkOutput UNet2DPyramid::run_all(const Variable& x, const Pass& pass) {
  std::vector<Variable> levels = encoder_(x, pass, options_.dropout);
  const std::array<int64_t, 3> size{x.shape().d, x.shape().h, x.shape().w};
  Variable h = levels.back();
  levels.pop_back();
  NetworkOutput output;
  for (size_t step = 0; step < 4; ++step) {
    h = decoder_.up(step, h, levels.back(), pass);
    levels.pop_back();
    if (step == 3) break;
    const Variable logits = conv(perturbed(h, step, pass), heads_[step + 1], true);
    output.auxiliary.insert(output.auxiliary.begin(), resize(logits, size, kernels::Interpolation::nearest));
  }
  output.logits = conv(h, out_conv_, true);
  return output;
}

}  // namespace semivox
