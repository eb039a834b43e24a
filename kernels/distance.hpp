// Exact squared Euclidean distance transform of a batch of masks, one source for the CPU and the GPU.
#pragma once

#include <array>

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// Squared distance of every voxel's centre to the centre of the nearest non-zero voxel of its sample; 0 on
/// the mask, +infinity everywhere in a sample whose mask is empty. mask: u8 (N,1,D,H,W). spacing: voxel size
/// along D, H, W, each > 0. out: f64 or f32, same shape and device, allocated by the caller. With spacing 1
/// the values are exact integers (f32: up to 2^24); with other spacings they carry the rounding of a few
/// operations in `out`'s type.
///
/// Separable: one pass per axis takes the lower envelope of parabolas (Meijster, Roerdink and Hesselink, "A
/// general algorithm for computing distance transforms in linear time", 2000), with sample spacing added.
void squared_distance(const Tensor& mask, std::array<double, 3> spacing, Tensor& out);

}  // namespace semivox::kernels
