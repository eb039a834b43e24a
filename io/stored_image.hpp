// A scan in the integers its file stores: a quarter to half of the memory of floats, for caches of whole data
// sets.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "io/volume.hpp"

namespace semivox::io {

enum class StoredType { u8, i16, f32 };

/// One channel of a scan; voxel (i, j, k) has the value `scaled_value(slope, stored, intercept)`.
struct StoredImage {
  Extent3 shape{0, 0, 0};
  StoredType type = StoredType::f32;
  std::vector<std::byte> data;  ///< elements of `type`, last axis fastest
  float slope = 1;              ///< 1 for f32
  float intercept = 0;          ///< 0 for f32
  Geometry geometry;
};

/// slope * stored + intercept with one rounding at the end. A fused multiply-add has the same result on every
/// CPU and GPU, whereas a compiler may or may not fuse a product and a sum.
inline float scaled_value(float slope, float stored, float intercept) {
  return std::fma(slope, stored, intercept);
}

/// Bytes of one element.
int64_t element_size(StoredType type);

/// The scan as floats, by `scaled_value`.
Image decode(const StoredImage& stored);

/// The stored form of a scan that has only floats.
StoredImage store(const Image& image);

}  // namespace semivox::io
