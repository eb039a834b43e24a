// Device code around the convolution library: packing of weights and gradients, and convolutions without any
// library, one thread per result, for shapes that the library does not take. One source for CPU and GPU; slow
// but always there.
//
// Grids as in kernels/conv_grids.hpp. dtypes f32 and bf16, sums in float; weights (coarse, fine, kD, kH, kW)
// in f32.
#pragma once

#include "kernels/conv_grids.hpp"

namespace semivox::kernels::direct {

/// (coarse, fine, taps) f32 to (coarse, taps, fine) in the dtype of `packed`.
void pack_weights(const Tensor& values, int64_t fine_channels, int64_t taps, Tensor& packed);

/// dw (coarse, fine, taps) f32 += gradient (coarse, taps, fine), f32 or bf16.
void add_unpacked(const Tensor& gradient, int64_t fine_channels, int64_t taps, Tensor& dw);

/// The same values in the dtype of `to`.
void convert(const Tensor& from, Tensor& to);

/// Both overwrite their last argument and add no bias.
void to_coarse(const ConvGeometry&, const Tensor& fine, const Tensor& weights, Tensor& coarse);
void to_fine(const ConvGeometry&, const Tensor& coarse, const Tensor& weights, Tensor& fine);

/// Adds to `dw`.
void to_weights(const ConvGeometry&, const Tensor& fine, const Tensor& coarse, Tensor& dw);

}  // namespace semivox::kernels::direct
