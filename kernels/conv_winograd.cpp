// Work is cut into units: two output rows (one row of tiles) of some planes of one sample. A unit's tiles are
// numbered plane by plane; tap kd of tile m then reads transformed tile m + kd * (tiles in a row).
//
//   V = B^T x B    (16 positions, planes + 2, tiles, Ci)    of the input
//   U = G w G^T    (16 positions, 3, Ci, Co)                of the weights, made once per version
//   M = V U        (16 positions, tiles, Co)                a matrix product for each position, summed over
//   kd and Ci y = A^T M A                                             2x2 outputs of a tile
//
// The gradient of the weights runs it backwards: Z = A dy A^T, dU = V^T Z, dw = G^T dU G.

#include "kernels/conv_winograd.hpp"

#if defined(__x86_64__)

#include <omp.h>

#include <algorithm>
#include <vector>

#include "engine/parallel.hpp"
#include "kernels/conv_packed.hpp"

namespace semivox::kernels::winograd {

namespace {

#define SEMIVOX_AVX512 __attribute__((target("avx512f")))

typedef float Vector __attribute__((vector_size(64), aligned(4), may_alias));  // 16 channels

constexpr int64_t kLanes = 16;
constexpr int64_t kPositions = 16;
constexpr int64_t kChunk =
    24;  // tiles whose products are kept in the first-level cache before they become outputs

/// Bytes of a unit's transformed input: half of a core's second-level cache.
constexpr int64_t kUnitBytes = int64_t{1} << 20;

/// Limits that cut the weight gradient into tasks with partial sums of their own; the cuts depend on the
/// shapes alone.
constexpr int64_t kTasks = 16;
constexpr int64_t kPartialBytes = int64_t{8} << 20;
constexpr int64_t kUnitsPerRun = 4;  // fewer do not pay for the sums that a run begins and ends with

/// Tiles of a weight gradient that all its products pass over before the next ones.
constexpr int64_t kCachedTiles = 128;

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
SEMIVOX_AVX512 void transform_input(const float* x /* (D, H, W, C) of one sample */, const Shape& s,
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
SEMIVOX_AVX512 void transform_unit(const Tensor& x, const Units& units, const Unit& unit,
                                   const PositionRows& positions, const Order& order, float* columns,
                                   float* v) {
  const Shape& s = x.shape();
  const float* sample = x.data<float>() + unit.n * s.voxels() * s.c;
  for (int64_t i = 0; i < unit.planes + 2; ++i) {
    transform_input(sample, s, unit.first_plane + i - 1, unit.tile_row, units.tiles, positions, order,
                    columns, v + i * units.tiles * order.tile, (unit.planes + 2) * units.tiles * s.c);
  }
}

/// Products of `Rows` tiles with `Width` times 16 output channels for one position: sums over three planes
/// and all input channels. With the channels known the compiler addresses every tile by a constant offset.
template <int64_t Channels, int Rows, int Width>
SEMIVOX_AVX512 void multiply(const float* v /* (tiles, Channels) */,
                             const float* u /* (3, Channels, 16 Width) */, int64_t plane_stride,
                             float* m /* (tiles, out_stride) */, int64_t out_stride) {
  Vector sums[Rows][Width] = {};
  for (int64_t kd = 0; kd < 3; ++kd) {
    const float* plane = v + kd * plane_stride;
    for (int64_t c = 0; c < Channels; ++c, u += Width * kLanes) {
      Vector weights[Width];
      for (int j = 0; j < Width; ++j) weights[j] = load(u + j * kLanes);
#pragma GCC unroll 24
      for (int i = 0; i < Rows; ++i) {
        const float value = plane[i * Channels + c];
#pragma GCC unroll 2
        for (int j = 0; j < Width; ++j) sums[i][j] += value * weights[j];
      }
    }
  }
#pragma GCC unroll 24
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < Width; ++j) store(m + i * out_stride + j * kLanes, sums[i][j]);
  }
}

using Multiply = void (*)(const float*, const float*, int64_t, float*, int64_t);

/// The product of up to 24 / `Width` tiles. Behind the last tile there is room to read and to write.
template <int64_t Channels, int Width>
Multiply multiply_for(int64_t rows) {
  if (rows * Width > 16) return multiply<Channels, 24 / Width, Width>;
  return rows * Width > 8 ? multiply<Channels, 16 / Width, Width> : multiply<Channels, 8 / Width, Width>;
}

template <int Width>
Multiply multiply_for(int64_t channels, int64_t rows) {
  switch (channels) {
    case 16:
      return multiply_for<16, Width>(rows);
    case 32:
      return multiply_for<32, Width>(rows);
    case 64:
      return multiply_for<64, Width>(rows);
    default:
      return multiply_for<128, Width>(rows);
  }
}

/// Output channels that one product computes: two vectors where their number allows.
int64_t block_width(int64_t out_channels) { return out_channels % (2 * kLanes) == 0 ? 2 * kLanes : kLanes; }

SEMIVOX_AVX512 inline Vector activated(Vector z, float slope) {
  const Vector zero = {};
  return z > zero ? z : slope * z;
}

/// 2x2 outputs of one tile from its 16 products.
SEMIVOX_AVX512 void write_tile(const float* m /* (16 positions: stride pitch, Co) */, int64_t pitch,
                               const float* bias, float slope, const Shape& s, int64_t plane, int64_t h,
                               int64_t w, float* y /* (D, H, W, Co) of one sample */) {
  for (int64_t c = 0; c < s.c; c += kLanes) {
    Vector rows[2][4];
    for (int64_t j = 0; j < 4; ++j) {
      const Vector m0 = load(m + j * pitch + c), m1 = load(m + (4 + j) * pitch + c),
                   m2 = load(m + (8 + j) * pitch + c), m3 = load(m + (12 + j) * pitch + c);
      rows[0][j] = m0 + m1 + m2;
      rows[1][j] = m1 - m2 - m3;
    }
    const Vector b = bias != nullptr ? load(bias + c) : Vector{};
    for (int64_t i = 0; i < 2 && h + i < s.h; ++i) {
      float* to = y + ((plane * s.h + h + i) * s.w + w) * s.c + c;
      store(to, activated(rows[i][0] + rows[i][1] + rows[i][2] + b, slope));
      if (w + 1 < s.w) store(to + s.c, activated(rows[i][1] - rows[i][2] - rows[i][3] + b, slope));
    }
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

int64_t columns_size(const Units& units, int64_t channels) { return (2 * units.tiles + 2) * channels; }
int64_t input_size(const Units& units, int64_t channels) {
  return (kPositions * (units.planes + 2) * units.tiles + kChunk) * channels;
}

SEMIVOX_AVX512 void convolve_unit(const Tensor& x, const float* u, const float* bias, float slope,
                                  const Units& units, const Unit& unit, float* scratch, Tensor& y) {
  const int64_t in = x.shape().c, out = y.shape().c, width = block_width(out), tiles = units.tiles;
  float* columns = scratch;
  float* v = columns + columns_size(units, in);
  float* m = v + input_size(units, in);  // (16, chunk, Co)
  transform_unit(x, units, unit, {}, Order::by_tile(in), columns, v);
  const int64_t pitch = (unit.planes + 2) * tiles * in, count = unit.planes * tiles;
  const int64_t group = width == kLanes ? 24 : 12;         // tiles of one product
  std::fill_n(v + kPositions * pitch, kChunk * in, 0.0f);  // what the last product reads behind the last tile
  float* sample = y.data<float>() + unit.n * y.shape().voxels() * out;
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    const int64_t rows = std::min(kChunk, count - begin);
    for (int64_t p = 0; p < kPositions; ++p) {
      const float* from = v + p * pitch + begin * in;
      for (int64_t c = 0; c < out; c += width) {
        const float* weights = u + (p * out + c) * 3 * in;
        float* to = m + p * kChunk * out + c;
        for (int64_t i = 0; i < rows; i += group) {
          const int64_t left = std::min(group, rows - i);
          const Multiply multiply = width == kLanes ? multiply_for<1>(in, left) : multiply_for<2>(in, left);
          multiply(from + i * in, weights, tiles * in, to + i * out, out);
        }
      }
    }
    for (int64_t i = 0; i < rows; ++i) {
      write_tile(m + i * out, kChunk * out, bias, slope, y.shape(), unit.first_plane + (begin + i) / tiles,
                 2 * unit.tile_row, (begin + i) % tiles * 2, sample);
    }
  }
}

/// G g: the four transformed values of three taps.
SEMIVOX_AVX512 inline void transform_taps(const Vector& g0, const Vector& g1, const Vector& g2,
                                          Vector (&u)[4]) {
  u[0] = g0;
  u[1] = 0.5f * (g0 + g1 + g2);
  u[2] = 0.5f * (g0 - g1 + g2);
  u[3] = g2;
}

/// U of a layer, (16 positions, blocks of output channels, 3, Ci, width), for input channel i and the outputs
/// o ... o+15.
SEMIVOX_AVX512 void transform_sixteen(const float* w /* (Co, Ci, 3, 3, 3) */, int64_t co, int64_t ci,
                                      bool backward, int64_t i, int64_t o, float* u) {
  const int64_t in = backward ? co : ci, out = backward ? ci : co, width = block_width(out);
  float taps[27][kLanes];
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    const float* from = w + (backward ? i * ci + o + lane : (o + lane) * ci + i) * 27;
    for (int64_t tap = 0; tap < 27; ++tap) taps[tap][lane] = from[backward ? 26 - tap : tap];
  }
  for (int64_t kd = 0; kd < 3; ++kd) {
    Vector columns[3][4];
    for (int64_t kw = 0; kw < 3; ++kw) {
      const auto tap = [&](int64_t kh) { return taps[(kd * 3 + kh) * 3 + kw]; };
      transform_taps(load(tap(0)), load(tap(1)), load(tap(2)), columns[kw]);
    }
    for (int64_t row = 0; row < 4; ++row) {
      Vector values[4];
      transform_taps(columns[0][row], columns[1][row], columns[2][row], values);
      for (int64_t column = 0; column < 4; ++column) {
        const int64_t p = 4 * row + column;
        store(u + (p * out + o / width * width) * 3 * in + (kd * in + i) * width + o % width, values[column]);
      }
    }
  }
}

/// U of a layer. `backward` gives that of the gradient of the input, a convolution with mirrored taps from Co
/// to Ci channels.
void transform_weights(const float* w /* (Co, Ci, 3, 3, 3) */, int64_t co, int64_t ci, bool backward,
                       float* u) {
  const int64_t in = backward ? co : ci, out = backward ? ci : co, groups = in / kLanes;
  parallel_blocks(out / kLanes * groups, 1, [&](int64_t task, int64_t) {
    for (int64_t i = task % groups * kLanes; i < (task % groups + 1) * kLanes; ++i) {
      transform_sixteen(w, co, ci, backward, i, task / groups * kLanes, u);
    }
  });
}

void convolve(const Tensor& x, const float* u, const Tensor& bias, float slope, Tensor& y) {
  const int64_t in = x.shape().c, out = y.shape().c;
  const Units units(x.shape(), in);
  const ThreadScratch scratch(columns_size(units, in) + input_size(units, in) + kPositions * kChunk * out);
  const float* b = bias.defined() ? bias.data<float>() : nullptr;
  parallel_blocks(units.count(), 1, [&](int64_t index, int64_t) {
    convolve_unit(x, u, b, slope, units, Unit(units, index), scratch.mine(), y);
  });
}

/// The transformed weights of one direction, cached with the layer.
const float* packed(const ConvGeometry& g, const ConvWeights& weights, bool backward) {
  const onednn::MemoryDesc desc({kPositions, 3, g.in_channels, g.out_channels}, dnnl::memory::data_type::f32,
                                dnnl::memory::format_tag::abcd);
  const dnnl::memory memory = onednn::packed_weights(weights, desc, backward, [&](const dnnl::memory& to) {
    transform_weights(weights.values.data<float>(), g.out_channels, g.in_channels, backward,
                      static_cast<float*>(to.get_data_handle()));
  });
  return static_cast<const float*>(memory.get_data_handle());
}

/// Z of a unit, (positions, C / 16, planes, tiles, 16): A dy A^T.
SEMIVOX_AVX512 void transform_output(const Tensor& dy, const Units& units, const Unit& unit,
                                     const PositionRows& positions, float* z) {
  const Shape& s = dy.shape();
  const int64_t count = unit.planes * units.tiles, pitch = count * s.c;
  const Order order = Order::by_block(count);
  const float* sample = dy.data<float>() + unit.n * s.voxels() * s.c;
  const Vector zero = {};
  for (int64_t m = 0; m < count; ++m) {
    const int64_t d = unit.first_plane + m / units.tiles, h = 2 * unit.tile_row, w = m % units.tiles * 2;
    for (int64_t c = 0; c < s.c; c += kLanes) {
      Vector rows[4][2];
      for (int64_t j = 0; j < 2; ++j) {
        const float* from = sample + ((d * s.h + h) * s.w + w + j) * s.c + c;
        const Vector a = w + j < s.w ? load(from) : zero;
        const Vector b = w + j < s.w && h + 1 < s.h ? load(from + s.w * s.c) : zero;
        rows[0][j] = a;
        rows[1][j] = a + b;
        rows[2][j] = a - b;
        rows[3][j] = -b;
      }
      for (int64_t i = positions.begin; i < positions.end; ++i) {
        float* to = z + 4 * (i - positions.begin) * pitch + m * order.tile + c * order.block;
        store(to, rows[i][0]);
        store(to + pitch, rows[i][0] + rows[i][1]);
        store(to + 2 * pitch, rows[i][0] - rows[i][1]);
        store(to + 3 * pitch, -rows[i][1]);
      }
    }
  }
}

/// Adds to `Rows` input by 16 `Width` output channels of dU the products of `count` tiles.
template <int Rows, int Width>
SEMIVOX_AVX512 void add_products(const float* v /* (count, 16), the first `Rows` of each */,
                                 const float* z /* (count, 16), Width times, z_block apart */,
                                 int64_t z_block, int64_t count, float* du /* (Rows, out) */, int64_t out) {
  Vector sums[Rows][Width] = {};
  for (int64_t m = 0; m < count; ++m) {
    Vector gradients[Width];
    for (int j = 0; j < Width; ++j) gradients[j] = load(z + j * z_block + m * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      const float value = v[m * kLanes + i];
#pragma GCC unroll 2
      for (int j = 0; j < Width; ++j) sums[i][j] += value * gradients[j];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < Width; ++j) {
      float* to = du + i * out + j * kLanes;
      store(to, load(to) + sums[i][j]);
    }
  }
}

/// Adds one unit's dU, (16, 3, Ci, Co), in some rows of positions.
SEMIVOX_AVX512 void add_unit(const Tensor& x, const Tensor& dy, const Units& units, const Unit& unit,
                             const PositionRows& positions, float* scratch, float* du) {
  const int64_t in = x.shape().c, out = dy.shape().c, tiles = units.tiles, count = unit.planes * tiles;
  const int64_t source_count = count + 2 * tiles, rows = out == kLanes ? 16 : 8;
  float* columns = scratch;
  float* v = columns + columns_size(units, in);  // (positions, Ci / 16, planes + 2, tiles, 16)
  float* z = v + input_size(units, in);          // (positions, Co / 16, planes, tiles, 16)
  transform_unit(x, units, unit, positions, Order::by_block(source_count), columns, v);
  transform_output(dy, units, unit, positions, z);
  const int64_t chunks = (count + kCachedTiles - 1) / kCachedTiles;
  for (int64_t p = 0; p < positions.positions(); ++p) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t begin = count * chunk / chunks, size = count * (chunk + 1) / chunks - begin;
      for (int64_t kd = 0; kd < 3; ++kd) {
        float* tap = du + ((4 * positions.begin + p) * 3 + kd) * in * out;
        for (int64_t i = 0; i < in; i += rows) {
          const float* from = v + p * source_count * in + i / kLanes * kLanes * source_count +
                              (kd * tiles + begin) * kLanes + i % kLanes;
          for (int64_t c = 0; c < out; c += 2 * kLanes) {
            const float* gradients = z + (p * out + c) * count + begin * kLanes;
            if (out == kLanes) {
              add_products<16, 1>(from, gradients, 0, size, tap + i * out, out);
            } else {
              add_products<8, 2>(from, gradients, kLanes * count, size, tap + i * out + c, out);
            }
          }
        }
      }
    }
  }
}

/// G^T u: three taps' gradients from four transformed ones.
SEMIVOX_AVX512 inline void transform_back(const Vector (&u)[4], Vector (&g)[3]) {
  g[0] = u[0] + 0.5f * (u[1] + u[2]);
  g[1] = 0.5f * (u[1] - u[2]);
  g[2] = 0.5f * (u[1] + u[2]) + u[3];
}

/// Adds to dw the gradients of input channel i and the outputs o ... o+15 from the runs' sums.
SEMIVOX_AVX512 void collect_sixteen(const float* sums /* (runs, 16, 3, Ci, Co) */, int64_t runs, int64_t in,
                                    int64_t out, int64_t i, int64_t o, float* dw /* (Co, Ci, 27) */) {
  float taps[27][kLanes];
  for (int64_t kd = 0; kd < 3; ++kd) {
    Vector rows[4][3];
    for (int64_t row = 0; row < 4; ++row) {
      Vector u[4] = {};
      for (int64_t column = 0; column < 4; ++column) {
        const float* from = sums + (((4 * row + column) * 3 + kd) * in + i) * out + o;
        for (int64_t run = 0; run < runs; ++run) u[column] += load(from + run * kPositions * 3 * in * out);
      }
      transform_back(u, rows[row]);
    }
    for (int64_t kw = 0; kw < 3; ++kw) {
      const Vector column[4] = {rows[0][kw], rows[1][kw], rows[2][kw], rows[3][kw]};
      Vector g[3];
      transform_back(column, g);
      for (int64_t kh = 0; kh < 3; ++kh) store(taps[(kd * 3 + kh) * 3 + kw], g[kh]);
    }
  }
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    float* to = dw + ((o + lane) * in + i) * 27;
    for (int64_t tap = 0; tap < 27; ++tap) to[tap] += taps[tap][lane];
  }
}

}  // namespace

bool takes(const ConvGeometry& g, const Tensor& x, const Tensor& y) {
  static const bool available = __builtin_cpu_supports("avx512f") > 0;
  const std::array<int64_t, 3> one{1, 1, 1}, three{3, 3, 3};
  const auto fits = [](int64_t c) { return c == 16 || c == 32 || c == 64 || c == 128; };
  return available && !g.transposed && g.kernel == three && g.stride == one && g.padding == one &&
         fits(g.in_channels) && fits(g.out_channels) && x.dtype() == DType::f32 && y.dtype() == DType::f32;
}

void forward(const ConvGeometry& g, const Tensor& x, const ConvWeights& weights, const Tensor& bias,
             float slope, Tensor& y) {
  convolve(x, packed(g, weights, false), bias, slope, y);
}

void backward_data(const ConvGeometry& g, const Tensor& dy, const ConvWeights& weights, Tensor& dx) {
  convolve(dy, packed(g, weights, true), {}, 1.0f, dx);
}

void backward_weights(const Tensor& x, const Tensor& dy, Tensor& dw) {
  const int64_t in = x.shape().c, out = dy.shape().c, count = kPositions * 3 * in * out;
  const Units units(x.shape(), in + out);
  // Runs of units have partial sums of their own; where these are too large, the positions are split as well.
  const int64_t affordable =
      std::max<int64_t>(1, kPartialBytes / (count * static_cast<int64_t>(sizeof(float))));
  const int64_t worthwhile = std::max<int64_t>(1, units.count() / kUnitsPerRun);
  const int64_t runs = std::min({kTasks, affordable, worthwhile}), splits = runs < kTasks ? 4 : 1;
  const Tensor partials = Tensor::zeros({1, runs * count, 1, 1, 1}, DType::f32, {}, MemoryTag::workspace);
  float* sums = partials.data<float>();  // (runs, 16, 3, Ci, Co)
  const ThreadScratch scratch(columns_size(units, in) + input_size(units, in) + input_size(units, out));
  parallel_blocks(runs * splits, 1, [&](int64_t task, int64_t) {
    const int64_t run = task / splits, split = task % splits;
    const PositionRows positions{4 * split / splits, 4 * (split + 1) / splits};
    for (int64_t unit = units.count() * run / runs; unit < units.count() * (run + 1) / runs; ++unit) {
      add_unit(x, dy, units, Unit(units, unit), positions, scratch.mine(), sums + run * count);
    }
  });
  parallel_blocks(in, kLanes, [&](int64_t begin, int64_t end) {
    for (int64_t o = 0; o < out; o += kLanes) {
      for (int64_t i = begin; i < end; ++i) collect_sixteen(sums, runs, in, out, i, o, dw.data<float>());
    }
  });
}

}  // namespace semivox::kernels::winograd

#else

namespace semivox::kernels::winograd {

bool takes(const ConvGeometry&, const Tensor&, const Tensor&) { return false; }

void forward(const ConvGeometry&, const Tensor&, const ConvWeights&, const Tensor&, float, Tensor&) {
  throw InternalError("this processor has no 512-bit vectors");
}
void backward_data(const ConvGeometry&, const Tensor&, const ConvWeights&, Tensor&) {
  throw InternalError("this processor has no 512-bit vectors");
}
void backward_weights(const Tensor&, const Tensor&, Tensor&) {
  throw InternalError("this processor has no 512-bit vectors");
}

}  // namespace semivox::kernels::winograd

#endif
