// Confident negatives for a contrastive loss between voxels (Zhao et al., "RCPS: Rectified contrastive pseudo
// supervision", JBHI 2023): the voxels of an image that are most surely of another class than the anchor.
//
// The order of preference depends on the anchor through its class alone, so there is one list per class and
// not one per anchor. A voxel's place in a list is the number of voxels before it: counted, not sorted, each
// by itself, with nothing kept but the place.
#pragma once

#include <cstdint>

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// The most probable class of every voxel and its probability.
struct ClassMap {
  Tensor classes;     ///< u8 (N,1,D,H,W), ties to the lower class
  Tensor confidence;  ///< (N,1,D,H,W), in the dtype of the logits
};

/// Of logits (N,C,D,H,W), f32 or f64, at most 16 classes.
ClassMap confident_classes(const Tensor& logits);

/// Lists of negatives, one for the anchors of each class. They are padded to a multiple of `kKeyTile` places.
struct NegativeLists {
  static constexpr int64_t kKeyTile = 32;
  Tensor chosen;  ///< i32 (C, places): 1 + number of the voxel, counted over all samples; 0: no voxel
  Tensor place;   ///< i32 (C, voxels): where a voxel stands in the list, -1: nowhere
};

/// For anchors of class c = 0 ... classes-1 the `count` voxels of highest confidence among those of another
/// class, the lower number first among equals. When there are fewer, voxels of class c itself follow, lowest
/// numbers first, if `fill`; no list is longer than there are voxels. O(classes N^2) comparisons, O(classes
/// N) memory for N voxels.
NegativeLists choose_negatives(const ClassMap& map, int64_t classes, int64_t count, bool fill);

}  // namespace semivox::kernels
