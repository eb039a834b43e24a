// What the two halves of the Winograd convolutions share (conv_winograd.cpp: outputs and inputs' gradients;
// conv_winograd_weights.cpp): how a volume is cut into units of tiles, and their transformed input.
//
// A unit is two output rows (one row of tiles) of some planes of one sample. Its tiles are numbered plane by
// plane; tap kd of tile m then reads transformed tile m + kd * (tiles in a row).
//
//   V = B^T x B    (16 positions, planes + 2, tiles, Ci)    of the input
#pragma once

#include <omp.h>

#include <algorithm>

#include "engine/parallel.hpp"
#include "engine/tensor.hpp"

namespace semivox::kernels::winograd {

#define SEMIVOX_AVX512 __attribute__((target("avx512f")))

typedef float Vector __attribute__((vector_size(64), aligned(4), may_alias));  // 16 channels

inline constexpr int64_t kLanes = 16;
inline constexpr int64_t kPositions = 16;

/// Tiles whose products are kept in the first-level cache before they become outputs.
inline constexpr int64_t kChunk = 24;

/// Bytes of a unit's transformed input: half of a core's second-level cache.
inline constexpr int64_t kUnitBytes = int64_t{1} << 20;

SEMIVOX_AVX512 inline Vector load(const float* p) { return *reinterpret_cast<const Vector*>(p); }
SEMIVOX_AVX512 inline void store(float* p, Vector v) { *reinterpret_cast<Vector*>(p) = v; }

/// How a volume is cut into units.
struct Units {
  Shape shape;        // of the activations; channels are given where they matter
  int64_t tile_rows;  // along H
  int64_t tiles;      // in a row, along W
  int64_t planes;     // of a full unit
  int64_t runs;       // of planes, in a volume

  Units(const Shape& s, int64_t channels) : shape(s), tile_rows((s.h + 1) / 2), tiles((s.w + 1) / 2) {
    const int64_t slice_bytes = kPositions * tiles * channels * static_cast<int64_t>(sizeof(float));
    planes = std::clamp<int64_t>(kUnitBytes / slice_bytes - 2, 1, s.d);
    runs = (s.d + planes - 1) / planes;
    planes = (s.d + runs - 1) / runs;  // even runs
  }

  int64_t count() const { return shape.n * tile_rows * runs; }
};

struct Unit {
  int64_t n, tile_row, first_plane, planes;

  Unit(const Units& u, int64_t index)
      : n(index / u.runs / u.tile_rows),
        tile_row(index / u.runs % u.tile_rows),
        first_plane(index % u.runs * u.planes),
        planes(std::min(u.planes, u.shape.d - first_plane)) {}
};

/// Rows begin ... end-1 of the 4x4 positions.
struct PositionRows {
  int64_t begin = 0, end = 4;
  int64_t positions() const { return 4 * (end - begin); }
};

/// Where the 16 channels c ... c+15 of tile t lie among transformed values: t * tile + c * block.
struct Order {
  int64_t tile, block;
  /// All channels of a tile side by side: for products over channels.
  static Order by_tile(int64_t channels) { return {channels, 1}; }
  /// The tiles of 16 channels side by side: for products over tiles, whose channels would otherwise lie a
  /// power of two apart and compete for the same cache lines.
  static Order by_block(int64_t tiles) { return {kLanes, tiles}; }
};

/// One slice of V: `plane` of the input in the rows of `tile_row`, zero outside the volume. `columns` is
/// scratch, (W + 3, C).
SEMIVOX_AVX512 inline void transform_input(const float* x /* (D, H, W, C) of one sample */, const Shape& s,
                                           int64_t plane, int64_t tile_row, int64_t tiles,
                                           const PositionRows& positions, const Order& order, float* columns,
                                           float* v /* (positions: stride `pitch`), then as ordered */,
                                           int64_t pitch) {
  const int64_t channels = s.c;
  const Vector zero = {};
  if (plane < 0 || plane >= s.d) {
    for (int64_t p = 0; p < positions.positions(); ++p) {
      for (int64_t c = 0; c < channels; c += kLanes) {
        for (int64_t t = 0; t < tiles; ++t) store(v + p * pitch + t * order.tile + c * order.block, zero);
      }
    }
    return;
  }
  const int64_t width = 2 * tiles + 2;
  const float* rows[4];
  for (int64_t i = 0; i < 4; ++i) {
    const int64_t h = 2 * tile_row - 1 + i;
    rows[i] = h >= 0 && h < s.h ? x + (plane * s.h + h) * s.w * channels : nullptr;
  }
  // B^T along the height: row i is rows[first] + sign * rows[second].
  static constexpr int kFirst[] = {0, 1, 2, 1}, kSecond[] = {2, 2, 1, 3};
  static constexpr float kSign[] = {-1, 1, -1, -1};
  for (int64_t i = positions.begin; i < positions.end; ++i) {
    std::fill_n(columns, channels, 0.0f);  // the margins: one voxel to the left, one or two to the right
    std::fill_n(columns + (s.w + 1) * channels, (width - s.w - 1) * channels, 0.0f);
    const float *a = rows[kFirst[i]], *b = rows[kSecond[i]];
    for (int64_t j = 0; j < s.w * channels; j += kLanes) {
      store(columns + channels + j,
            (a != nullptr ? load(a + j) : zero) + kSign[i] * (b != nullptr ? load(b + j) : zero));
    }
    for (int64_t t = 0; t < tiles; ++t) {  // the same along the width
      const float* from = columns + 2 * t * channels;
      for (int64_t c = 0; c < channels; c += kLanes) {
        float* to = v + 4 * (i - positions.begin) * pitch + t * order.tile + c * order.block;
        const Vector x0 = load(from + c), x1 = load(from + channels + c), x2 = load(from + 2 * channels + c),
                     x3 = load(from + 3 * channels + c);
        store(to, x0 - x2);
        store(to + pitch, x1 + x2);
        store(to + 2 * pitch, x2 - x1);
        store(to + 3 * pitch, x1 - x3);
      }
    }
  }
}

/// V of a unit, (positions, planes + 2, tiles, C) or, in each position, as ordered.
SEMIVOX_AVX512 inline void transform_unit(const Tensor& x, const Units& units, const Unit& unit,
                                          const PositionRows& positions, const Order& order, float* columns,
                                          float* v) {
  const Shape& s = x.shape();
  const float* sample = x.data<float>() + unit.n * s.voxels() * s.c;
  for (int64_t i = 0; i < unit.planes + 2; ++i) {
    transform_input(sample, s, unit.first_plane + i - 1, unit.tile_row, units.tiles, positions, order,
                    columns, v + i * units.tiles * order.tile, (unit.planes + 2) * units.tiles * s.c);
  }
}

/// Scratch memory of every thread, in floats.
class ThreadScratch {
 public:
  explicit ThreadScratch(int64_t count)
      : count_((count + kLanes - 1) / kLanes * kLanes),
        memory_(Tensor::empty({1, thread_count() * count_, 1, 1, 1}, DType::f32, {}, MemoryTag::workspace)) {}
  float* mine() const { return memory_.data<float>() + omp_get_thread_num() * count_; }

 private:
  int64_t count_;
  Tensor memory_;
};

inline int64_t columns_size(const Units& units, int64_t channels) { return (2 * units.tiles + 2) * channels; }
inline int64_t input_size(const Units& units, int64_t channels) {
  return (kPositions * (units.planes + 2) * units.tiles + kChunk) * channels;
}

}  // namespace semivox::kernels::winograd
