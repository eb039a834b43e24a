#include "io/slice_augment.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/error.hpp"
#include "io/streams.hpp"
#include "kernels/zoom.hpp"

namespace semivox::io {
namespace {

constexpr int kLargestAngle = 20;  // degrees; the angle is drawn from -20 ... 19

// Draws of a sample.
enum Draw : uint64_t { kTurn, kFlip, kBranch, kOtherBranch, kAngle, kRow, kColumn };

/// Appends `count` positions of a crop of an axis of `size` pixels that begins at `first`, -1 outside.
void append_crop(int64_t size, int64_t first, int64_t count, std::vector<int32_t>& table) {
  for (int64_t i = first; i < first + count; ++i)
    table.push_back(i >= 0 && i < size ? static_cast<int32_t>(i) : -1);
}

int64_t centre(int64_t room) {  // half of it, rounded half to even
  const int64_t half = room / 2;
  return half + (room % 2 == 1 && half % 2 == 1 ? 1 : 0);
}

}  // namespace

SliceFit parse_slice_fit(const std::string& word) {
  if (word == "zoom") return SliceFit::zoom;
  if (word == "crop") return SliceFit::crop;
  throw UsageError(text("fit: found '", word, "', expected zoom or crop"));
}

SliceAugmentation draw_slice_augmentation(AugmentMode mode, RandomStream random) {
  bool turn = mode == AugmentMode::rotflip, rotate = mode == AugmentMode::rotate;
  if (mode == AugmentMode::rotflip_rotate) {
    turn = random.uniform(kBranch) > 0.5f;
    rotate = !turn && random.uniform(kOtherBranch) > 0.5f;
  }
  SliceAugmentation drawn;
  if (turn) {
    drawn.quarter_turns = static_cast<int>(random.integer(kTurn, 4));
    drawn.flip_axis = static_cast<int>(random.integer(kFlip, 2));
  }
  if (rotate) drawn.degrees = static_cast<int>(random.integer(kAngle, 2 * kLargestAngle)) - kLargestAngle;
  return drawn;
}

void place_slice(const SliceAugmentation& augmentation, SliceFit fit, AugmentMode mode, int64_t height,
                 int64_t width, RandomStream random, kernels::SliceSample& sample,
                 std::vector<int32_t>& tables) {
  const int64_t h = sample.height, w = sample.width;
  const bool odd = augmentation.quarter_turns % 2 == 1;
  const int64_t rows = odd ? w : h, columns = odd ? h : w;  // of the augmented slice
  const auto pixel = [&](int64_t a, int64_t b) {
    if (augmentation.flip_axis == 0) a = rows - 1 - a;
    if (augmentation.flip_axis == 1) b = columns - 1 - b;
    switch (augmentation.quarter_turns) {
      case 1:
        return b * w + (w - 1 - a);
      case 2:
        return (h - 1 - a) * w + (w - 1 - b);
      case 3:
        return (h - 1 - b) * w + a;
      default:
        return a * w + b;
    }
  };
  sample.origin = pixel(0, 0);  // the map is linear
  sample.stride[0] = pixel(1, 0) - sample.origin;
  sample.stride[1] = pixel(0, 1) - sample.origin;
  if (augmentation.degrees != 0) {
    const double angle = augmentation.degrees * (std::numbers::pi / 180);
    const double row = static_cast<double>(h - 1) / 2, column = static_cast<double>(w - 1) / 2;
    sample.rotated = true;
    sample.cosine = std::cos(angle);
    sample.sine = std::sin(angle);
    sample.offset[0] = row - (sample.cosine * row + sample.sine * column);
    sample.offset[1] = column - (sample.cosine * column - sample.sine * row);
  }
  if (fit == SliceFit::zoom) {
    for (const auto& [from, to] : {std::pair(rows, height), std::pair(columns, width)}) {
      const std::vector<int32_t> table = kernels::zoom_table(from, to);
      tables.insert(tables.end(), table.begin(), table.end());
    }
    return;
  }
  const bool pad = rows <= height || columns <= width;
  const auto crop = [&](int64_t size, int64_t patch, uint64_t draw) {
    const int64_t padding = pad ? std::max(((patch - size) >> 1) + 3, int64_t{0}) : 0;  // >> 1 rounds down
    const int64_t room = size + 2 * padding - patch;
    const int64_t start = mode == AugmentMode::none ? centre(room) : random.integer(draw, room);
    append_crop(size, start - padding, patch, tables);
  };
  crop(rows, height, kRow);
  crop(columns, width, kColumn);
}

Batch make_slice_batch(const std::vector<SliceOfCase>& slices, int64_t height, int64_t width, SliceFit fit,
                       AugmentMode mode, uint64_t seed, uint64_t iteration) {
  SEMIVOX_CHECK(!slices.empty() && slices.size() < 0xf00, slices.size(), " samples");
  std::vector<kernels::SliceSample> samples;
  std::vector<int32_t> tables;
  for (const SliceOfCase& slice : slices) {
    const CachedCase& cached = *slice.cached;
    SEMIVOX_CHECK(slice.index >= 0 && slice.index < cached.shape[0], cached.id, ": slice ", slice.index);
    const int64_t pixels = cached.shape[1] * cached.shape[2], first = slice.index * pixels;
    const int64_t pixel_bytes = cached.image.shape().c * size_of(cached.image.dtype());
    kernels::SliceSample sample;
    sample.image = static_cast<const char*>(cached.image.raw()) + first * pixel_bytes;
    sample.label = cached.label.defined() ? cached.label.data<uint8_t>() + first : nullptr;
    sample.dtype = cached.image.dtype();
    sample.slope = cached.slope;
    sample.intercept = cached.intercept;
    sample.height = cached.shape[1];
    sample.width = cached.shape[2];
    const RandomStream random{seed, iteration, kAugmentationStream + samples.size()};
    place_slice(draw_slice_augmentation(mode, random), fit, mode, height, width, random, sample, tables);
    samples.push_back(sample);
  }
  const CachedCase& any = *slices.front().cached;
  const Shape shape{static_cast<int64_t>(slices.size()), any.image.shape().c, 1, height, width};
  const Device device = any.image.device();
  Batch batch{Tensor::empty(shape, DType::f32, device, MemoryTag::data),
              Tensor::empty(shape.with_channels(1), DType::u8, device, MemoryTag::data)};
  kernels::gather_slices(samples, tables, batch.image, batch.label);
  return batch;
}

}  // namespace semivox::io
