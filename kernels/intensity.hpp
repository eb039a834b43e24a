// Random changes of an image's grey values: contrast, brightness and noise, as RCPS makes its views of a
// patch (Zhao et al., "RCPS: Rectified contrastive pseudo supervision", JBHI 2023).
#pragma once

#include <functional>
#include <vector>

#include "engine/random.hpp"
#include "engine/tensor.hpp"

namespace semivox::kernels {

/// What happens to one sample: y = contrast * x, then z = y + brightness * mean(y), then z + noise * normal.
/// The default leaves it as it is.
struct IntensityChange {
  float contrast = 1;
  float brightness = 0;  ///< part of the mean over all voxels and channels of the scaled sample
  float noise = 0;       ///< standard deviation; element i of the sample gets normal number i of `random`
  RandomStream random{};
};

/// A changed copy of x (N,C,D,H,W) f32; one change per sample.
Tensor change_intensity(const Tensor& x, const std::vector<IntensityChange>& changes);

/// The same with changes that `draw(sample)` gives, in a recorded iteration anew in every replay.
Tensor change_intensity(const Tensor& x, const std::function<IntensityChange(int64_t sample)>& draw);

}  // namespace semivox::kernels
