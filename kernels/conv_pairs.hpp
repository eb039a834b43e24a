// bf16 convolutions between 16 channels at full resolution, for processors with AVX-512 and its bf16 dot
// products (and without matrix tiles).
//
// The output's channels fill one vector; a pair of input channels is broadcast and multiplied with the
// weights of the three taps along W, which stay in registers for a run of voxels: three dot products for each
// load, where a library that takes any number of channels has one.
#pragma once

#include "kernels/conv_grids.hpp"

namespace semivox::kernels::pairs {

/// True when these functions take the layer: kernel 3x3x3 or 1x3x3 of the same size, stride 1, 16 channels on
/// both sides, at least 16 voxels along W; bf16.
bool takes(const ConvGeometry& geometry, const Tensor& x, const Tensor& y);

/// y = act(conv(x) + bias). x and y (N, D, H, W, 16), bias (16) or undefined. `slope` is the activation's
/// below zero, 1 for none.
void forward(const ConvGeometry& geometry, const Tensor& x, const ConvWeights& weights, const Tensor& bias,
             float slope, Tensor& y);

/// dx = gradient of the input: the convolution of dy with turned weights.
void backward_data(const ConvGeometry& geometry, const Tensor& dy, const ConvWeights& weights, Tensor& dx);

}  // namespace semivox::kernels::pairs
