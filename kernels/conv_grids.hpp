// The two grids of a convolution, a name for each, so that every variant writes its loops once.
//
// A convolution reads a fine grid and writes a coarse one (equal in size when nothing strides); coarse voxel
// o and kernel tap k touch fine voxel o * stride - padding + k. A transposed convolution runs the other way
// over the same pairs. Hence three operations cover both layers and their gradients, with weights (coarse
// channels, fine channels, kD, kH, kW):
//
//   to_coarse   convolution forward,             transposed convolution's gradient of the input
//   to_fine     convolution's gradient of input, transposed convolution forward
//   weights     the weight gradient of either, sum over pairs of fine value * coarse value
#pragma once

#include "kernels/conv.hpp"

namespace semivox::kernels {

struct ConvGrids {
  Shape fine, coarse;
};

/// Which grid is which, from the shapes of the layer's input and output.
inline ConvGrids conv_grids(const ConvGeometry& geometry, const Shape& input, const Shape& output) {
  return geometry.transposed ? ConvGrids{output, input} : ConvGrids{input, output};
}

inline int64_t tap_count(const ConvGeometry& g) { return g.kernel[0] * g.kernel[1] * g.kernel[2]; }

/// True for 3x3x3 or 1x3x3 taps whose output has the size of the input.
inline bool keeps_size(const ConvGeometry& g) {
  const int64_t depth = g.kernel[0];
  return (depth == 1 || depth == 3) && g.kernel[1] == 3 && g.kernel[2] == 3 && !g.transposed &&
         g.dilation == 1 && g.stride == std::array<int64_t, 3>{1, 1, 1} &&
         g.padding == std::array<int64_t, 3>{depth / 2, 1, 1};
}

/// True when the taps of different coarse voxels never meet (kernel = stride, no padding): a matrix product
/// on patches.
inline bool is_patchwise(const ConvGeometry& g) {
  return g.kernel == g.stride && g.padding == std::array<int64_t, 3>{0, 0, 0} && tap_count(g) > 1;
}

}  // namespace semivox::kernels
