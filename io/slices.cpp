#include "io/slices.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "engine/error.hpp"

namespace semivox::io {
namespace {

/// Calls f(array position, slices position) for every voxel, positions counted in voxels.
template <class F>
void for_each_voxel(const Extent3& shape, int axis, const F& f) {
  const Extent3 first = slices_first(shape, axis);
  const std::array<int64_t, 3> strides{shape[1] * shape[2], shape[2], 1};
  std::array<int64_t, 3> moved = strides;  // of the array, by axes of the slices
  if (axis > 0) std::rotate(moved.begin(), moved.begin() + axis, moved.begin() + axis + 1);
  int64_t position = 0;
  for (int64_t s = 0; s < first[0]; ++s) {
    for (int64_t i = 0; i < first[1]; ++i) {
      for (int64_t j = 0; j < first[2]; ++j) f(s * moved[0] + i * moved[1] + j * moved[2], position++);
    }
  }
}

}  // namespace

SliceAxis parse_slice_axis(const std::string& word) {
  if (word == "auto") return SliceAxis::automatic;
  if (word == "0") return SliceAxis::first;
  if (word == "1") return SliceAxis::second;
  if (word == "2") return SliceAxis::third;
  throw UsageError(text("slice_axis: found '", word, "', expected auto, 0, 1 or 2"));
}

std::string name_of(SliceAxis axis) {
  switch (axis) {
    case SliceAxis::none:
      return "none";
    case SliceAxis::automatic:
      return "auto";
    case SliceAxis::first:
      return "0";
    case SliceAxis::second:
      return "1";
    case SliceAxis::third:
      break;
  }
  return "2";
}

int slice_axis_of(SliceAxis axis, const std::string& file, const Extent3& shape) {
  if (axis == SliceAxis::none) return -1;
  if (shape[0] == 1) return 0;
  if (axis == SliceAxis::automatic) return file.ends_with(".h5") || file.ends_with(".png") ? 0 : 2;
  return axis == SliceAxis::first ? 0 : axis == SliceAxis::second ? 1 : 2;
}

Extent3 slices_first(const Extent3& shape, int axis) {
  Extent3 moved = shape;
  if (axis > 0) std::rotate(moved.begin(), moved.begin() + axis, moved.begin() + axis + 1);
  return moved;
}

std::vector<std::byte> slices_first(const void* voxels, const Extent3& shape, int axis, int64_t voxel_bytes) {
  const auto size = static_cast<size_t>(voxel_bytes);
  std::vector<std::byte> result(static_cast<size_t>(voxel_count(shape)) * size);
  const auto* source = static_cast<const std::byte*>(voxels);
  for_each_voxel(shape, axis, [&](int64_t array, int64_t slices) {
    std::memcpy(result.data() + slices * voxel_bytes, source + array * voxel_bytes, size);
  });
  return result;
}

std::vector<std::byte> array_order(const void* slices, const Extent3& shape, int axis, int64_t voxel_bytes) {
  const auto size = static_cast<size_t>(voxel_bytes);
  std::vector<std::byte> result(static_cast<size_t>(voxel_count(shape)) * size);
  const auto* source = static_cast<const std::byte*>(slices);
  for_each_voxel(shape, axis, [&](int64_t array, int64_t position) {
    std::memcpy(result.data() + array * voxel_bytes, source + position * voxel_bytes, size);
  });
  return result;
}

}  // namespace semivox::io
