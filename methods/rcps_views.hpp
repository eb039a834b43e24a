// The two views of a patch in RCPS: contrast, brightness and noise, drawn anew for every view.
#pragma once

#include "kernels/intensity.hpp"
#include "methods/options.hpp"

namespace semivox {

/// y = contrast x, then y + brightness mean(y), then noise on some views. A range of 0 switches its part off.
struct RcpsViews {
  double contrast, brightness;  ///< contrast is 1 + U(-contrast, contrast), brightness U(-brightness, ...)
  double noise, probability;    ///< standard deviation U(0, noise) with this probability
  bool sticky;  ///< a view that draws no noise gets the very noise of the last view that drew some
  bool fixed;   ///< nothing is drawn: first views at the lower, second views at the upper ends of the ranges

  explicit RcpsViews(OptionReader& options);

  /// The change for view number k of the `views` of an iteration: two per patch, one patch after the other.
  /// Numbers 4k ... 4k+3 of `draws` decide; the noise is stream noise.stream + k. Both are streams of the
  /// iteration `step`, from 1. Sticky noise is looked up in the draws of the iterations before, so that
  /// nothing has to be kept between them.
  kernels::IntensityChange draw(int64_t k, int64_t views, const RandomStream& draws,
                                const RandomStream& noise_stream) const;
};

}  // namespace semivox
