#include "io/augment.hpp"

#include <algorithm>
#include <utility>

#include "engine/error.hpp"
#include "kernels/grid_distortion.hpp"

namespace semivox::io {
namespace {

constexpr double kDistortionProbability = 0.1, kDistortionLimit = 0.1;
constexpr int64_t kDistortionCells = 5;

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
  if (word == "distort") return AugmentMode::distort;
  if (word == "none") return AugmentMode::none;
  if (word == "rotate") return AugmentMode::rotate;
  if (word == "rotflip_rotate") return AugmentMode::rotflip_rotate;
  throw UsageError(text("augment: found '", word,
                        "', expected rotflip, crop, distort or none, for slices also rotate or "
                        "rotflip_rotate"));
}

Augmentation draw_augmentation(AugmentMode mode, const Extent3& shape, const Extent3& patch,
                               RandomStream random) {
  Augmentation drawn;
  if (mode == AugmentMode::rotflip) {
    drawn.quarter_turns = static_cast<int>(random.integer(0, 4));
    drawn.flip_axis = static_cast<int>(random.integer(1, 2));
  }
  // Numbers 2, 3 and 4 are the start.
  if (mode == AugmentMode::distort && random.uniform(5) < static_cast<float>(kDistortionProbability)) {
    drawn.distortion = kernels::draw_grid_distortion(shape, kDistortionCells, kDistortionLimit, random, 6);
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
      drawn.start[a] = random.integer(2 + a, mode == AugmentMode::distort ? room + 1 : room);
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

std::array<std::vector<float>, 3> distorted_coordinates(const Augmentation& augmentation,
                                                        const Extent3& shape, const Extent3& patch) {
  std::array<std::vector<float>, 3> source;
  for (size_t a = 0; a < 3; ++a) {
    for (int64_t i = 0; i < patch[a]; ++i) {
      const int64_t at = augmentation.start[a] - augmentation.padding[a] + i;
      const bool inside = at >= 0 && at < shape[a];
      source[a].push_back(inside ? augmentation.distortion[a][static_cast<size_t>(at)] : -1.0f);
    }
  }
  return source;
}

}  // namespace semivox::io
