// Resampling with cubic B-splines (Unser, "Splines: a perfect fit for signal and image processing", IEEE
// Signal Processing Magazine 1999), as ITK's BSplineInterpolateImageFunction does it: mirrored at the
// borders.
#pragma once

#include <array>
#include <vector>

#include "io/volume.hpp"

namespace semivox::io {

/// Values of the spline through `values` (shape C order) at positions i * step[a] voxels along axis a, i = 0
/// ... to[a] - 1.
std::vector<float> resample_cubic(const std::vector<float>& values, const Extent3& shape, const Extent3& to,
                                  const std::array<double, 3>& step);

}  // namespace semivox::io
