// What the two halves of the Winograd convolutions share (conv_winograd.cpp: outputs and inputs' gradients;
// conv_winograd_weights.cpp): how a volume is cut into units of tiles, and their transformed input.
//
// A unit is two output rows (one row of tiles) of some planes of one sample, or of the slices of several. Its
// tiles are numbered plane by plane; tap kd of tile m then reads transformed tile m + kd * (tiles in a row).
//
//   V = B^T x B    (16 positions, input planes, tiles, Ci)    of the input
#pragma once

#include <omp.h>

#include <algorithm>
#include <type_traits>

#include "engine/parallel.hpp"
#include "engine/tensor.hpp"
#include "kernels/avx512.hpp"

namespace semivox::kernels::winograd {

inline constexpr int kLanes = 16;  // channels of a vector
using Vector = avx512::Vector<kLanes>;
inline constexpr int64_t kPositions = 16;

/// Tiles whose products are kept in the first-level cache before they become outputs.
inline constexpr int64_t kChunk = 24;

/// Bytes of a unit's transformed input: a core's second-level cache holds one or two.
inline constexpr int64_t kUnitBytes = int64_t{1} << 20;

template <class T>
SEMIVOX_AVX512 inline Vector load(const T* p) {
  return avx512::load<kLanes>(p);
}
template <class T>
SEMIVOX_AVX512 inline void store(T* p, Vector v) {
  avx512::store<kLanes>(p, v);
}

/// How a volume is cut into units.
struct Units {
  Shape shape;        // of the activations, the channels set aside
  int64_t depth;      // taps along D: 3, or 1
  int64_t tile_rows;  // along H
  int64_t tiles;      // in a row, along W
  int64_t planes;     // of a full unit
  int64_t runs;       // of planes, in a volume

  /// `value_bytes` of a transformed value; rows are filled up to a multiple of `together` tiles.
  Units(const Shape& s, int64_t kernel_depth, int64_t channels, size_t value_bytes, int64_t together)
      : shape(s),
        depth(kernel_depth),
        tile_rows((s.h + 1) / 2),
        tiles(((s.w + 1) / 2 + together - 1) / together * together) {
    if (depth == 1) {  // planes do not meet: those of all samples are one stack
      shape.d *= shape.n;
      shape.n = 1;
    }
    const int64_t slice_bytes = kPositions * tiles * channels * static_cast<int64_t>(value_bytes);
    planes = std::clamp<int64_t>(kUnitBytes / slice_bytes - depth + 1, 1, shape.d);
    runs = (shape.d + planes - 1) / planes;
    planes = (shape.d + runs - 1) / runs;  // even runs
  }

  /// Planes of the input that `outputs` planes of the output see.
  int64_t input_planes(int64_t outputs) const { return outputs + depth - 1; }

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

/// How the 16 channels of a tile lie among transformed values.
enum class Layout {
  /// All channels of a tile side by side: for products over channels.
  by_tile,
  /// The tiles of 16 channels side by side: for products over tiles, whose channels would otherwise lie a
  /// power of two apart and compete for the same cache lines. In bf16 two neighbours interleaved, (tiles / 2,
  /// 16, 2), as its dot products want them.
  by_block
};

/// Tiles that are written together.
template <class T, Layout layout>
inline constexpr int kTogether = std::is_same_v<T, bf16>&& layout == Layout::by_block ? 2 : 1;

/// Where the channels c ... c+15 of tile t lie: t * tile + c * block.
struct Order {
  int64_t tile, block;
  Order(Layout layout, int64_t tiles, int64_t channels)
      : tile(layout == Layout::by_tile ? channels : kLanes), block(layout == Layout::by_tile ? 1 : tiles) {}
};

/// The words of a and b as bf16, side by side: a in the lower halves.
SEMIVOX_AVX512 inline auto interleaved(Vector a, Vector b) {
  return avx512::rounded<kLanes>(a) | avx512::rounded<kLanes>(b) << 16;
}

template <class T>
SEMIVOX_AVX512 inline void store_tiles(T* to, const Vector (&tile)[1]) {
  store(to, tile[0]);
}
SEMIVOX_AVX512 inline void store_tiles(bf16* to, const Vector (&neighbours)[2]) {
  const auto pairs = interleaved(neighbours[0], neighbours[1]);
  std::memcpy(static_cast<void*>(to), &pairs, sizeof pairs);
}

/// One slice of V: `plane` of the input in the rows of `tile_row`, zero outside the volume. `columns` is
/// scratch, (W + 3, C).
template <Layout layout, class T>
SEMIVOX_AVX512 inline void transform_input(const T* x /* (D, H, W, C) of one sample */, const Shape& s,
                                           int64_t plane, int64_t tile_row, int64_t tiles,
                                           const PositionRows& positions, const Order& order, float* columns,
                                           T* v /* (positions: stride `pitch`), then as ordered */,
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
  const T* rows[4];
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
    const T *a = rows[kFirst[i]], *b = rows[kSecond[i]];
    for (int64_t j = 0; j < s.w * channels; j += kLanes) {
      store(columns + channels + j,
            (a != nullptr ? load(a + j) : zero) + kSign[i] * (b != nullptr ? load(b + j) : zero));
    }
    constexpr int together = kTogether<T, layout>;
    for (int64_t t = 0; t < tiles; t += together) {  // the same along the width
      for (int64_t c = 0; c < channels; c += kLanes) {
        Vector values[4][together];
        for (int k = 0; k < together; ++k) {
          const float* from = columns + 2 * (t + k) * channels + c;
          const Vector x0 = load(from), x1 = load(from + channels), x2 = load(from + 2 * channels),
                       x3 = load(from + 3 * channels);
          values[0][k] = x0 - x2;
          values[1][k] = x1 + x2;
          values[2][k] = x2 - x1;
          values[3][k] = x1 - x3;
        }
        T* to = v + 4 * (i - positions.begin) * pitch + t * order.tile + c * order.block;
        for (int64_t j = 0; j < 4; ++j) store_tiles(to + j * pitch, values[j]);
      }
    }
  }
}

/// V of a unit, (positions, input planes, tiles, C) or, in each position, by blocks of channels.
template <Layout layout, class T>
SEMIVOX_AVX512 inline void transform_unit(const Tensor& x, const Units& units, const Unit& unit,
                                          const PositionRows& positions, float* columns, T* v) {
  const Shape s = units.shape.with_channels(x.shape().c);
  const int64_t planes = units.input_planes(unit.planes), count = planes * units.tiles;
  const Order order(layout, count, s.c);
  const T* sample = x.data<T>() + unit.n * s.voxels() * s.c;
  for (int64_t i = 0; i < planes; ++i) {
    transform_input<layout>(sample, s, unit.first_plane + i - units.depth / 2, unit.tile_row, units.tiles,
                            positions, order, columns, v + i * units.tiles * order.tile, count * s.c);
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

/// Sizes of a unit's parts in floats.
inline int64_t columns_size(const Units& units, int64_t channels) { return (2 * units.tiles + 2) * channels; }
template <class T>
int64_t input_size(const Units& units, int64_t channels) {
  const int64_t values = (kPositions * units.input_planes(units.planes) * units.tiles + kChunk) * channels;
  return values * static_cast<int64_t>(sizeof(T)) / static_cast<int64_t>(sizeof(float));
}

}  // namespace semivox::kernels::winograd
