// The gradient of the weights runs the convolution backwards; V of a unit as in conv_winograd_units.hpp.
//
//   Z = A dy A^T   (16 positions, tiles, Co)      of the gradient of the output
//   dU = V^T Z     (16 positions, kD, Ci, Co)     summed over the tiles
//   dw = G^T dU G

#include "kernels/conv_winograd.hpp"

#if defined(__x86_64__)

#include "kernels/conv_winograd_units.hpp"

namespace semivox::kernels::winograd {

namespace {

/// Limits that cut the weight gradient into tasks with partial sums of their own; the cuts depend on the
/// shapes alone.
constexpr int64_t kTasks = 16;
constexpr int64_t kPartialBytes = int64_t{8} << 20;

/// Tiles whose products are worth partial sums of their own. In f32 short sums are worth more: they keep
/// small layers close to f64.
template <class T>
constexpr int64_t kTilesOfRun = std::is_same_v<T, bf16> ? 512 : 1;

/// Tiles of a weight gradient that all its products pass over before the next ones.
constexpr int64_t kCachedTiles = 128;

/// Z of a unit, (positions, C / 16, planes, tiles, 16): A dy A^T.
template <class T>
SEMIVOX_AVX512 void transform_output(const Tensor& dy, const Units& units, const Unit& unit,
                                     const PositionRows& positions, T* z) {
  constexpr int together = kTogether<T, Layout::by_block>;
  const Shape s = units.shape.with_channels(dy.shape().c);
  const int64_t count = unit.planes * units.tiles, pitch = count * s.c;
  const Order order(Layout::by_block, count, s.c);
  const T* sample = dy.data<T>() + unit.n * s.voxels() * s.c;
  const Vector zero = {};
  for (int64_t m = 0; m < count; m += together) {
    const int64_t d = unit.first_plane + m / units.tiles, h = 2 * unit.tile_row;
    for (int64_t c = 0; c < s.c; c += kLanes) {
      Vector rows[4][2][together];
      for (int k = 0; k < together; ++k) {
        for (int64_t j = 0; j < 2; ++j) {
          const int64_t w = (m + k) % units.tiles * 2 + j;
          const T* from = sample + ((d * s.h + h) * s.w + w) * s.c + c;
          const Vector a = w < s.w ? load(from) : zero;
          const Vector b = w < s.w && h + 1 < s.h ? load(from + s.w * s.c) : zero;
          rows[0][j][k] = a;
          rows[1][j][k] = a + b;
          rows[2][j][k] = a - b;
          rows[3][j][k] = -b;
        }
      }
      for (int64_t i = positions.begin; i < positions.end; ++i) {
        const auto& [left, right] = rows[i];
        Vector sum[together], difference[together], minus[together];
        for (int k = 0; k < together; ++k) {
          sum[k] = left[k] + right[k];
          difference[k] = left[k] - right[k];
          minus[k] = -right[k];
        }
        T* to = z + 4 * (i - positions.begin) * pitch + m * order.tile + c * order.block;
        store_tiles(to, left);
        store_tiles(to + pitch, sum);
        store_tiles(to + 2 * pitch, difference);
        store_tiles(to + 3 * pitch, minus);
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

/// The same in bf16: one dot product takes two neighbours. `count` is even.
template <int Rows, int Width>
SEMIVOX_AVX512_BF16 void add_products(const bf16* v /* (count / 2, 16, 2), the first `Rows` of each */,
                                      const bf16* z /* (count / 2, 16, 2), Width times, z_block apart */,
                                      int64_t z_block, int64_t count, float* du /* (Rows, out) */,
                                      int64_t out) {
  __m512 sums[Rows][Width] = {};
  for (int64_t m = 0; m < count; m += 2) {
    __m512bh gradients[Width];
#pragma GCC unroll 2
    for (int j = 0; j < Width; ++j) gradients[j] = avx512::load_pairs(z + j * z_block + m * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      const __m512bh values = avx512::broadcast_pair(v + m * kLanes + 2 * i);
#pragma GCC unroll 2
      for (int j = 0; j < Width; ++j) sums[i][j] = _mm512_dpbf16_ps(sums[i][j], values, gradients[j]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < Width; ++j) {
      float* to = du + i * out + j * kLanes;
      _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), sums[i][j]));
    }
  }
}

/// Adds one unit's dU, (16, kD, Ci, Co), in some rows of positions.
template <class T>
SEMIVOX_AVX512 void add_unit(const Tensor& x, const Tensor& dy, const Units& units, const Unit& unit,
                             const PositionRows& positions, float* scratch, float* du) {
  const int64_t in = x.shape().c, out = dy.shape().c, tiles = units.tiles, count = unit.planes * tiles;
  const int64_t source_count = units.input_planes(unit.planes) * tiles, rows = out == kLanes ? 16 : 8;
  constexpr int64_t together = kTogether<T, Layout::by_block>;
  float* columns = scratch;
  float* inputs = columns + columns_size(units, in);
  T* v = reinterpret_cast<T*>(inputs);  // (positions, Ci / 16, input planes, tiles, 16)
  T* z = reinterpret_cast<T*>(inputs + input_size<T>(units, in));  // (positions, Co / 16, planes, tiles, 16)
  transform_unit<Layout::by_block>(x, units, unit, positions, columns, v);
  transform_output(dy, units, unit, positions, z);
  const int64_t chunks = (count + kCachedTiles - 1) / kCachedTiles;
  for (int64_t p = 0; p < positions.positions(); ++p) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t begin = count / together * chunk / chunks * together;
      const int64_t size = count / together * (chunk + 1) / chunks * together - begin;
      for (int64_t kd = 0; kd < units.depth; ++kd) {
        float* tap = du + ((4 * positions.begin + p) * units.depth + kd) * in * out;
        for (int64_t i = 0; i < in; i += rows) {
          const T* from = v + p * source_count * in + i / kLanes * kLanes * source_count +
                          (kd * tiles + begin) * kLanes + i % kLanes * together;
          for (int64_t c = 0; c < out; c += 2 * kLanes) {
            const T* gradients = z + (p * out + c) * count + begin * kLanes;
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

typedef double Doubles __attribute__((vector_size(64)));  // 8 channels
typedef float Half __attribute__((vector_size(32), aligned(4), may_alias));

/// G^T u: three taps' gradients from four transformed ones.
SEMIVOX_AVX512 inline void transform_back(const Doubles (&u)[4], Doubles (&g)[3]) {
  g[0] = u[0] + 0.5 * (u[1] + u[2]);
  g[1] = 0.5 * (u[1] - u[2]);
  g[2] = 0.5 * (u[1] + u[2]) + u[3];
}

/// Adds to dw the gradients of input channel i and the outputs o ... o+7 from the runs' sums.
SEMIVOX_AVX512 void collect_eight(const float* sums /* (runs, 16, kD, Ci, Co) */, int64_t runs, int64_t depth,
                                  int64_t in, int64_t out, int64_t i, int64_t o,
                                  float* dw /* (Co, Ci, kD, 3, 3) */) {
  constexpr int64_t kEight = 8;
  float taps[27][kEight];
  for (int64_t kd = 0; kd < depth; ++kd) {
    Doubles rows[4][3];
    for (int64_t row = 0; row < 4; ++row) {
      Doubles u[4] = {};
      for (int64_t column = 0; column < 4; ++column) {
        const float* from = sums + (((4 * row + column) * depth + kd) * in + i) * out + o;
        for (int64_t run = 0; run < runs; ++run) {
          const Half part = *reinterpret_cast<const Half*>(from + run * kPositions * depth * in * out);
          u[column] += __builtin_convertvector(part, Doubles);
        }
      }
      transform_back(u, rows[row]);
    }
    for (int64_t kw = 0; kw < 3; ++kw) {
      const Doubles column[4] = {rows[0][kw], rows[1][kw], rows[2][kw], rows[3][kw]};
      Doubles g[3];
      transform_back(column, g);
      for (int64_t kh = 0; kh < 3; ++kh) {
        *reinterpret_cast<Half*>(taps[(kd * 3 + kh) * 3 + kw]) = __builtin_convertvector(g[kh], Half);
      }
    }
  }
  for (int64_t lane = 0; lane < kEight; ++lane) {
    float* to = dw + ((o + lane) * in + i) * 9 * depth;
    for (int64_t tap = 0; tap < 9 * depth; ++tap) to[tap] += taps[tap][lane];
  }
}

template <class T>
void run(int64_t depth, const Tensor& x, const Tensor& dy, Tensor& dw) {
  const int64_t in = x.shape().c, out = dy.shape().c, count = kPositions * depth * in * out;
  const Units units(x.shape(), depth, in + out, sizeof(T), kTogether<T, Layout::by_block>);
  // Runs of units have partial sums of their own; where these are too large, the positions are split as well.
  const int64_t affordable =
      std::max<int64_t>(1, kPartialBytes / (count * static_cast<int64_t>(sizeof(float))));
  const int64_t worth = std::max<int64_t>(1, units.count() * units.planes * units.tiles / kTilesOfRun<T>);
  const int64_t runs = std::min({kTasks, affordable, worth, units.count()}), splits = runs < kTasks ? 4 : 1;
  const Tensor partials = Tensor::zeros({1, runs * count, 1, 1, 1}, DType::f32, {}, MemoryTag::workspace);
  float* sums = partials.data<float>();  // (runs, 16, kD, Ci, Co)
  const ThreadScratch scratch(columns_size(units, in) + input_size<T>(units, in) + input_size<T>(units, out));
  parallel_blocks(runs * splits, 1, [&](int64_t task, int64_t) {
    const int64_t run = task / splits, split = task % splits;
    const PositionRows positions{4 * split / splits, 4 * (split + 1) / splits};
    for (int64_t unit = units.count() * run / runs; unit < units.count() * (run + 1) / runs; ++unit) {
      add_unit<T>(x, dy, units, Unit(units, unit), positions, scratch.mine(), sums + run * count);
    }
  });
  parallel_blocks(in, kLanes, [&](int64_t begin, int64_t end) {
    for (int64_t o = 0; o < out; o += 8) {
      for (int64_t i = begin; i < end; ++i) collect_eight(sums, runs, depth, in, out, i, o, dw.data<float>());
    }
  });
}

}  // namespace

void backward_weights(const ConvGeometry& g, const Tensor& x, const Tensor& dy, Tensor& dw) {
  x.dtype() == DType::bf16 ? run<bf16>(g.kernel[0], x, dy, dw) : run<float>(g.kernel[0], x, dy, dw);
}

}  // namespace semivox::kernels::winograd

#else

namespace semivox::kernels::winograd {

void backward_weights(const ConvGeometry&, const Tensor&, const Tensor&, Tensor&) {
  throw InternalError("this processor has no 512-bit vectors");
}

}  // namespace semivox::kernels::winograd

#endif
