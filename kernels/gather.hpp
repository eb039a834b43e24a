// One kernel per batch from cached scans to network input: crop, pad, flip, rotate, scale and convert in one
// pass.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// Which source voxel an output voxel (i0, i1, i2) shows: number origin + i0 stride[0] + i1 stride[1] + i2
/// stride[2] when begin[a] <= ia < end[a] on all three axes, padding otherwise. Crops, paddings, flips and
/// quarter turns, in any combination, all have this form.
struct IndexMap {
  int64_t origin = 0;  ///< may lie outside of the source when the output begins with padding
  int64_t stride[3] = {0, 0, 0};
  int64_t begin[3] = {0, 0, 0};
  int64_t end[3] = {0, 0, 0};
};

/// The source of one sample of the batch; pointers lie on the device of the batch.
struct GatherSample {
  const void* image = nullptr;     // (D, H, W, C) of `dtype`, the source's own D, H, W
  const uint8_t* label = nullptr;  // (D, H, W), null for an unlabelled scan
  DType dtype = DType::f32;        ///< u8, i16 or f32
  float slope = 1;                 ///< an image value is fma(slope, stored, intercept)
  float intercept = 0;
  IndexMap map;
};

/// Fills `image` (N, C, D, H, W) f32 and, when it is defined, `label` (N, 1, D, H, W) u8 with N samples.
/// Padding is 0 in both, as image value after scaling; the label of an unlabelled scan is 0.
void gather(const std::vector<GatherSample>& samples, const Tensor& image, const Tensor& label);

}  // namespace semivox::kernels
