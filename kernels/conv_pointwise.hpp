// 1x1x1 convolutions as products of matrices, for GPUs: a row per voxel, weights (out, in) as they are.
//
// x (N, D, H, W, Ci), y (N, D, H, W, Co), both f32 or both bf16 (then the product is computed in f32, and
// rounded once); weights and their gradient (Co, Ci) f32.
#pragma once

#include "kernels/conv.hpp"

namespace semivox::kernels::pointwise {

/// True for layers without neighbours, stride and padding that are not transposed.
bool takes(const ConvGeometry& geometry);

/// y = x weights', without a bias.
void conv_forward(const Tensor& x, const Tensor& weights, Tensor& y);

/// dx = dy weights.
void conv_backward_data(const Tensor& dy, const Tensor& weights, Tensor& dx);

/// dw += dy' x.
void conv_backward_weights(const Tensor& x, const Tensor& dy, Tensor& dw);

}  // namespace semivox::kernels::pointwise
