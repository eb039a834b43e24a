// Class prototypes, the mean feature vectors of the classes, and the class whose prototype is nearest.
//
// Features (N,F,d,h,w) lie on a coarser grid than the voxels (N,C,D,H,W) that the classes are known for; G is
// their trilinear interpolation to the voxels. G is never made: it is linear in the features, so sums of G
// over voxels are sums of the features with interpolated weights, and since the weights of an interpolation
// add up to 1, squared distances of G to prototypes differ between classes as the interpolated ones do.
#pragma once

#include <array>

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// q_c = sum_v w_c(v) G(v) / (sum_v w_c(v) + 1e-5) for every sample by itself, w_c = p_c where the label is
/// c, 0 elsewhere. probabilities (N,C,D,H,W) and features (N,F,d,h,w), both f32 or f64; labels (N,1,D,H,W)
/// u8. Result (N,F,1,1,C): voxel c is the prototype of class c.
Tensor class_prototypes(const Tensor& probabilities, const Tensor& labels, const Tensor& features);

/// The class c of least |G(v) - q_c|^2, the lower one of two, at each of D, H, W voxels: u8 (N,1,D,H,W).
Tensor nearest_prototypes(const Tensor& features, const Tensor& prototypes,
                          const std::array<int64_t, 3>& size);

}  // namespace semivox::kernels
