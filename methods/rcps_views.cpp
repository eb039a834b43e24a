#include "methods/rcps_views.hpp"

namespace semivox {

namespace {

/// Number `which` of the four draws of view k.
float drawn(const RandomStream& draws, int64_t k, int64_t which) {
  return draws.uniform(static_cast<uint64_t>(4 * k + which));
}

}  // namespace

RcpsViews::RcpsViews(OptionReader& options)
    : contrast(options.number("contrast_range", 0.5, "a view is scaled by 1 +- this", 0, 1)),
      brightness(options.number("brightness_range", 0.5, "+- this part of its mean is added to a view", 0)),
      noise(options.number("noise_max", 0.1, "highest standard deviation of the noise on a view", 0)),
      probability(options.number("noise_probability", 0.5, "how often a view gets noise", 0, 1)),
      sticky(options.flag("noise_sticky", false,
                          "a view without noise of its own gets the last one drawn (official code)")),
      fixed(options.flag("views_fixed", false,
                         "views at the two ends of the ranges, without noise: nothing is random")) {}

kernels::IntensityChange RcpsViews::draw(int64_t k, int64_t views, const RandomStream& draws,
                                         const RandomStream& noise_stream) const {
  kernels::IntensityChange change;
  if (fixed) {
    const double end = k % 2 == 0 ? -1 : 1;
    change.contrast = static_cast<float>(1 + end * contrast);
    change.brightness = static_cast<float>(end * brightness);
    return change;
  }
  change.contrast = static_cast<float>(1 + contrast * (2.0 * drawn(draws, k, 0) - 1));
  change.brightness = static_cast<float>(brightness * (2.0 * drawn(draws, k, 1) - 1));
  if (noise == 0 || probability == 0) return change;
  RandomStream source = draws;  // of the view whose noise this one gets
  while (!(drawn(source, k, 2) < static_cast<float>(probability))) {
    if (!sticky || (k == 0 && source.step.now() <= 1)) return change;
    if (k == 0) {
      source.step = source.step.now() - 1;
      k = views;
    }
    --k;
  }
  change.noise = static_cast<float>(noise * drawn(source, k, 3));
  change.random = {noise_stream.seed, source.step, noise_stream.stream + static_cast<uint64_t>(k)};
  return change;
}

}  // namespace semivox
