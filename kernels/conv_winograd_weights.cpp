// The gradient of the weights runs the convolution backwards; V of a unit as in conv_winograd_units.hpp.
//
//   Z = A dy A^T   (16 positions, tiles, Co)      of the gradient of the output
//   dU = V^T Z     (16 positions, 3, Ci, Co)      summed over the tiles
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

/// Tiles of a weight gradient that all its products pass over before the next ones.
constexpr int64_t kCachedTiles = 128;

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

typedef double Doubles __attribute__((vector_size(64)));  // 8 channels
typedef float Half __attribute__((vector_size(32), aligned(4), may_alias));

/// G^T u: three taps' gradients from four transformed ones.
SEMIVOX_AVX512 inline void transform_back(const Doubles (&u)[4], Doubles (&g)[3]) {
  g[0] = u[0] + 0.5 * (u[1] + u[2]);
  g[1] = 0.5 * (u[1] - u[2]);
  g[2] = 0.5 * (u[1] + u[2]) + u[3];
}

/// Adds to dw the gradients of input channel i and the outputs o ... o+7 from the runs' sums.
SEMIVOX_AVX512 void collect_eight(const float* sums /* (runs, 16, 3, Ci, Co) */, int64_t runs, int64_t in,
                                  int64_t out, int64_t i, int64_t o, float* dw /* (Co, Ci, 27) */) {
  constexpr int64_t kEight = 8;
  float taps[27][kEight];
  for (int64_t kd = 0; kd < 3; ++kd) {
    Doubles rows[4][3];
    for (int64_t row = 0; row < 4; ++row) {
      Doubles u[4] = {};
      for (int64_t column = 0; column < 4; ++column) {
        const float* from = sums + (((4 * row + column) * 3 + kd) * in + i) * out + o;
        for (int64_t run = 0; run < runs; ++run) {
          const Half part = *reinterpret_cast<const Half*>(from + run * kPositions * 3 * in * out);
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
    float* to = dw + ((o + lane) * in + i) * 27;
    for (int64_t tap = 0; tap < 27; ++tap) to[tap] += taps[tap][lane];
  }
}

}  // namespace

void backward_weights(const Tensor& x, const Tensor& dy, Tensor& dw) {
  const int64_t in = x.shape().c, out = dy.shape().c, count = kPositions * 3 * in * out;
  const Units units(x.shape(), in + out);
  // Runs of units have partial sums of their own; where these are too large, the positions are split as well.
  const int64_t affordable =
      std::max<int64_t>(1, kPartialBytes / (count * static_cast<int64_t>(sizeof(float))));
  const int64_t runs = std::min({kTasks, affordable, units.count()}), splits = runs < kTasks ? 4 : 1;
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
    for (int64_t o = 0; o < out; o += 8) {
      for (int64_t i = begin; i < end; ++i) collect_eight(sums, runs, in, out, i, o, dw.data<float>());
    }
  });
}

}  // namespace semivox::kernels::winograd

#else

namespace semivox::kernels::winograd {

void backward_weights(const Tensor&, const Tensor&, Tensor&) {
  throw InternalError("this processor has no 512-bit vectors");
}

}  // namespace semivox::kernels::winograd

#endif
