#include "io/augment.hpp"

#include <algorithm>
#include <utility>

#include "engine/error.hpp"

namespace semivox::io {
namespace {

/// A source coordinate as a function of patch coordinates: start + sign * (patch coordinate `axis`).
struct AxisMap {
  int axis;
  int64_t sign;
  int64_t start;
};

Extent3 turned_shape(const Extent3& shape, int quarter_turns) {
  return quarter_turns % 2 == 0 ? shape : Extent3{shape[1], shape[0], shape[2]};
}

/// The map a -> n - 1 - a after `map`.
AxisMap reversed(const AxisMap& map, int64_t n) { return {map.axis, -map.sign, n - 1 - map.start}; }

}  // namespace

AugmentMode parse_augment_mode(const std::string& word) {
  if (word == "rotflip") return AugmentMode::rotflip;
  if (word == "crop") return AugmentMode::crop;
  if (word == "none") return AugmentMode::none;
  if (word == "rotate") return AugmentMode::rotate;
  if (word == "rotflip_rotate") return AugmentMode::rotflip_rotate;
  throw UsageError(text("augment: found '", word,
                        "', expected rotflip, crop or none, for slices also rotate or rotflip_rotate"));
}

Augmentation draw_augmentation(AugmentMode mode, const Extent3& shape, const Extent3& patch,
                               RandomStream random) {
  Augmentation drawn;
  if (mode == AugmentMode::rotflip) {
    drawn.quarter_turns = static_cast<int>(random.integer(0, 4));
    drawn.flip_axis = static_cast<int>(random.integer(1, 2));
  }
  const Extent3 size = turned_shape(shape, drawn.quarter_turns);
  const bool pad = size[0] <= patch[0] || size[1] <= patch[1] || size[2] <= patch[2];
  for (int a = 0; a < 3; ++a) {
    if (pad) drawn.padding[a] = std::max(((patch[a] - size[a]) >> 1) + 3, int64_t{0});  // >> 1 rounds down
    const int64_t room = size[a] + 2 * drawn.padding[a] - patch[a];
    if (mode == AugmentMode::none) {
      const int64_t half = room / 2;
      drawn.start[a] = half + (room % 2 == 1 && half % 2 == 1 ? 1 : 0);
    } else {
      drawn.start[a] = random.integer(2 + a, room);
    }
  }
  return drawn;
}

kernels::IndexMap index_map(const Augmentation& augmentation, const Extent3& shape, const Extent3& patch) {
  const Extent3 size = turned_shape(shape, augmentation.quarter_turns);
  kernels::IndexMap map;
  AxisMap turned[3];  // coordinates in the turned scan
  for (int a = 0; a < 3; ++a) {
    const int64_t first = augmentation.start[a] - augmentation.padding[a];
    map.begin[a] = std::clamp(-first, int64_t{0}, patch[a]);
    map.end[a] = std::clamp(size[a] - first, int64_t{0}, patch[a]);
    turned[a] = {a, 1, first};
    if (a == augmentation.flip_axis) turned[a] = reversed(turned[a], size[a]);
  }
  AxisMap source[3] = {turned[0], turned[1], turned[2]};  // coordinates in the scan
  switch (augmentation.quarter_turns) {
    case 1:
      source[0] = turned[1];
      source[1] = reversed(turned[0], shape[1]);
      break;
    case 2:
      source[0] = reversed(turned[0], shape[0]);
      source[1] = reversed(turned[1], shape[1]);
      break;
    case 3:
      source[0] = reversed(turned[1], shape[0]);
      source[1] = turned[0];
      break;
    default:
      break;
  }
  const int64_t strides[3] = {shape[1] * shape[2], shape[2], 1};
  for (int a = 0; a < 3; ++a) {
    map.origin += source[a].start * strides[a];
    map.stride[source[a].axis] = source[a].sign * strides[a];
  }
  return map;
}

}  // namespace semivox::io
