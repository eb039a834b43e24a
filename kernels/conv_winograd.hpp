// 3x3x3 and 1x3x3 convolutions by Winograd's minimal filtering (Lavin and Gray, CVPR 2016), for processors
// with AVX-512.
//
// F(2x2, 3x3) along height and width: a tile of 4x4 input voxels gives 2x2 output voxels with 16
// multiplications for each pair of channels instead of 36. The taps along depth stay plain sums.
// Rounding errors are a small multiple of those of the direct sum. In bf16 the transforms are computed in
// f32, their results are rounded to bf16, and the products summed in f32.
#pragma once

#include "kernels/conv_grids.hpp"

namespace semivox::kernels::winograd {

/// True when these functions take the layer, and are known to be faster: 3x3x3 or 1x3x3 of the same size,
/// stride 1, 16, 32, 64 or 128 channels on each side, f32, or bf16 on processors with its dot products but
/// without matrix tiles.
bool takes(const ConvGeometry& geometry, const Tensor& x, const Tensor& y);

/// y = act(conv(x) + bias). x (N, D, H, W, Ci), y (N, D, H, W, Co), bias (Co) or undefined. `slope` is the
/// activation's below zero, 1 for none.
void forward(const ConvGeometry& geometry, const Tensor& x, const ConvWeights& weights, const Tensor& bias,
             float slope, Tensor& y);

/// dx = gradient of the input.
void backward_data(const ConvGeometry& geometry, const Tensor& dy, const ConvWeights& weights, Tensor& dx);

/// Adds the weight gradient to dw (Co, Ci, kD, 3, 3).
void backward_weights(const ConvGeometry& geometry, const Tensor& x, const Tensor& dy, Tensor& dw);

}  // namespace semivox::kernels::winograd
