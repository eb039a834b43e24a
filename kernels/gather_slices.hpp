// One kernel per batch from cached stacks of slices to the input of a 2D network: turn, flip or rotate, then
// zoom or crop, scale and convert, in one pass. All of it by nearest neighbour, images too, as in the 2D
// literature.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// The source of one sample; pointers lie on the device of the batch.
///
/// Output pixel (i, j) shows the pixel (a, b) = (rows[i], columns[j]) of the augmented slice, nothing where
/// one of them is negative. `rotated`: (a, b) is first moved to floor(x + 1/2), floor(y + 1/2) with x =
/// offset[0] + cosine a + sine b, y = offset[1] - sine a + cosine b, and shows nothing unless 0 <= x <=
/// height - 1 and 0 <= y <= width - 1. The pixel of the slice is then number origin + a stride[0] + b
/// stride[1].
struct SliceSample {
  const void* image = nullptr;     // (H, W, C) of `dtype`
  const uint8_t* label = nullptr;  // (H, W), null for an unlabelled slice
  DType dtype = DType::f32;        ///< u8, i16 or f32
  float slope = 1;                 ///< an image value is fma(slope, stored, intercept)
  float intercept = 0;
  int64_t height = 0, width = 0;  ///< of the slice
  int64_t origin = 0;
  int64_t stride[2] = {0, 0};
  bool rotated = false;
  double cosine = 1, sine = 0;
  double offset[2] = {0, 0};
};

/// Fills `image` (N, C, 1, h, w) f32 and, when it is defined, `label` (N, 1, 1, h, w) u8. `tables`: for each
/// sample h row numbers, then w column numbers. Pixels that show nothing, and labels of unlabelled slices,
/// are 0.
void gather_slices(const std::vector<SliceSample>& samples, const std::vector<int32_t>& tables,
                   const Tensor& image, const Tensor& label);

}  // namespace semivox::kernels
