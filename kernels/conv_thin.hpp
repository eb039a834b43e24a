// Convolutions that read an image: few input channels, 8 or more output channels, for processors with
// AVX-512.
//
// Libraries block their loops by input channels and find one channel where they expect 16. Here the channels
// of the output fill the vectors and the input's values are broadcast: 27 multiply-adds a voxel and input
// channel, one pass over the output.
#pragma once

#include "kernels/conv_grids.hpp"

namespace semivox::kernels::thin {

/// True when these functions take the layer: kernel 3x3x3 or 1x3x3 of the same size, stride 1, at most 4
/// input channels, a multiple of 8 output channels; f32 or bf16.
bool takes(const ConvGeometry& geometry, const Tensor& x, const Tensor& y);

/// y = act(conv(x) + bias). x (N, D, H, W, Ci), y (N, D, H, W, Co) of the same dtype, bias (Co) or undefined.
/// `slope` is the activation's below zero, 1 for none.
void forward(const ConvGeometry& geometry, const Tensor& x, const ConvWeights& weights, const Tensor& bias,
             float slope, Tensor& y);

/// Adds the weight gradient to dw (Co, Ci, kD, 3, 3).
void backward_weights(const ConvGeometry& geometry, const Tensor& x, const Tensor& dy, Tensor& dw);

}  // namespace semivox::kernels::thin
