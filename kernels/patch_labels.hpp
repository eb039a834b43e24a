// Labels of patches: what a coarse grid of embeddings is compared by.
#pragma once

#include <array>

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// Which voxels of a patch decide.
enum class PatchVoxels {
  all,
  central  ///< the middle one, or the middle two of an even number, along every axis
};

/// labels (N,1,D,H,W) u8, below 16 -> (N,1,d,h,w) u8 with `grid` = d, h, w, which must divide D, H, W: the
/// class that most of a patch's voxels have, the lowest among equals. For two classes that is 1 where the
/// mean of the labels exceeds 1/2, as in DyCON: `all` in its first release, `central` (a trilinear resize)
/// later.
Tensor patch_labels(const Tensor& labels, const std::array<int64_t, 3>& grid, PatchVoxels voxels);

}  // namespace semivox::kernels
