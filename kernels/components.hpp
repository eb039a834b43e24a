// Connected components of a batch of masks or label maps, one source for the CPU and the GPU.
//
// `neighbours` says which voxels touch: 6 (faces), 18 (faces and edges) or 26 (faces, edges and corners); for
// 2D images (D = 1) also 4 and 8, which are 6 and 26 there. Samples never touch each other. All results are
// exact and independent of the number of threads.
#pragma once

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// Keeps the largest component of each sample's mask. Of components of one size the one whose first voxel
/// comes first in C order stays (scikit-image's `label`, then the argmax of the sizes). An empty mask stays
/// empty. mask_in: u8 (N,1,D,H,W), non-zero = object. mask_out: the same shape and dtype, on the same device,
/// allocated by the caller; kept voxels have their input value, all others 0. May be the tensor `mask_in`.
void largest_component(const Tensor& mask_in, int neighbours, Tensor& mask_out);

/// The same for each class 1 ... classes-1 of a label map by itself: voxels of a class outside that class's
/// largest component become 0, as do values of `classes` and above. labels_in, labels_out: u8 (N,1,D,H,W),
/// may be the same tensor.
void largest_component_per_class(const Tensor& labels_in, int classes, int neighbours, Tensor& labels_out);

/// Numbers the components of each sample from 1, in C order of their first voxels, as skimage.measure.label
/// does. mask: u8 (N,1,D,H,W), non-zero = object. labels: i32 of the same shape, allocated by the caller.
void label_components(const Tensor& mask, int neighbours, Tensor& labels);

}  // namespace semivox::kernels
