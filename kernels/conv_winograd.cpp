// Outputs and gradients of the inputs; V of a unit as in conv_winograd_units.hpp.
//
//   U = G w G^T    (16 positions, kD, Ci, Co)   of the weights, made once per version
//   M = V U        (16 positions, tiles, Co)    a matrix product for each position, summed over kd and Ci
//   y = A^T M A                                 2x2 outputs of a tile

#include "kernels/conv_winograd.hpp"

#if defined(__x86_64__)

#include "kernels/conv_packed.hpp"
#include "kernels/conv_winograd_units.hpp"

namespace semivox::kernels::winograd {

namespace {

/// Products of `Rows` tiles with `Width` times 16 output channels for one position: sums over the planes
/// under the kernel and all input channels. With the channels known the compiler addresses every tile by a
/// constant offset.
template <int64_t Channels, int Rows, int Width>
SEMIVOX_AVX512 void multiply(const float* v /* (tiles, Channels) */,
                             const float* u /* (kD, Channels, 16 Width) */, int64_t depth,
                             int64_t plane_stride, float* m /* (tiles, out_stride) */, int64_t out_stride) {
  Vector sums[Rows][Width] = {};
  for (int64_t kd = 0; kd < depth; ++kd) {
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

/// The same in bf16: one dot product takes a pair of input channels, broadcast, times 16 pairs of weights.
template <int64_t Channels, int Rows, int Width>
SEMIVOX_AVX512_BF16 void multiply(const bf16* v /* (tiles, Channels) */,
                                  const bf16* u /* (kD, Channels / 2, 16 Width, 2) */, int64_t depth,
                                  int64_t plane_stride, float* m /* (tiles, out_stride) */,
                                  int64_t out_stride) {
  __m512 sums[Rows][Width] = {};
  for (int64_t kd = 0; kd < depth; ++kd) {
    const bf16* plane = v + kd * plane_stride;
    for (int64_t c = 0; c < Channels; c += 2, u += Width * 2 * kLanes) {
      __m512bh weights[Width];
#pragma GCC unroll 2
      for (int j = 0; j < Width; ++j) weights[j] = avx512::load_pairs(u + j * 2 * kLanes);
#pragma GCC unroll 24
      for (int i = 0; i < Rows; ++i) {
        const __m512bh values = avx512::broadcast_pair(plane + i * Channels + c);
#pragma GCC unroll 2
        for (int j = 0; j < Width; ++j) sums[i][j] = _mm512_dpbf16_ps(sums[i][j], values, weights[j]);
      }
    }
  }
#pragma GCC unroll 24
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < Width; ++j) _mm512_storeu_ps(m + i * out_stride + j * kLanes, sums[i][j]);
  }
}

template <class T>
using Multiply = void (*)(const T*, const T*, int64_t, int64_t, float*, int64_t);

/// The product of up to 24 / `Width` tiles. Behind the last tile there is room to read and to write.
template <class T, int64_t Channels, int Width>
Multiply<T> multiply_for(int64_t rows) {
  if (rows * Width > 16) return multiply<Channels, 24 / Width, Width>;
  if (rows * Width > 8) return multiply<Channels, 16 / Width, Width>;
  return multiply<Channels, 8 / Width, Width>;
}

template <class T, int Width>
Multiply<T> multiply_for(int64_t channels, int64_t rows) {
  switch (channels) {
    case 16:
      return multiply_for<T, 16, Width>(rows);
    case 32:
      return multiply_for<T, 32, Width>(rows);
    case 64:
      return multiply_for<T, 64, Width>(rows);
    default:
      return multiply_for<T, 128, Width>(rows);
  }
}

/// Output channels that one product computes: two vectors where their number allows.
int64_t block_width(int64_t out_channels) { return out_channels % (2 * kLanes) == 0 ? 2 * kLanes : kLanes; }

SEMIVOX_AVX512 inline Vector activated(Vector z, float slope) {
  const Vector zero = {};
  return z > zero ? z : slope * z;
}

/// 2x2 outputs of one tile from its 16 products.
template <class T>
SEMIVOX_AVX512 void write_tile(const float* m /* (16 positions: stride pitch, Co) */, int64_t pitch,
                               const float* bias, float slope, const Shape& s, int64_t plane, int64_t h,
                               int64_t w, T* y /* (D, H, W, Co) of one sample */) {
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
      T* to = y + ((plane * s.h + h + i) * s.w + w) * s.c + c;
      store(to, activated(rows[i][0] + rows[i][1] + rows[i][2] + b, slope));
      if (w + 1 < s.w) store(to + s.c, activated(rows[i][1] - rows[i][2] - rows[i][3] + b, slope));
    }
  }
}

template <class T>
SEMIVOX_AVX512 void convolve_unit(const Tensor& x, const T* u, const float* bias, float slope,
                                  const Units& units, const Unit& unit, float* scratch, Tensor& y) {
  const int64_t in = x.shape().c, out = y.shape().c, width = block_width(out), tiles = units.tiles;
  float* columns = scratch;
  float* m = columns + columns_size(units, in);  // (16, chunk, Co)
  T* v = reinterpret_cast<T*>(m + kPositions * kChunk * out);
  transform_unit<Layout::by_tile>(x, units, unit, {}, columns, v);
  const int64_t pitch = units.input_planes(unit.planes) * tiles * in, count = unit.planes * tiles;
  const int64_t group = width == kLanes ? 24 : 12;  // tiles of one product
  // What the last product reads behind the last tile.
  std::fill_n(v + kPositions * pitch, kChunk * in, T(0.0f));
  const Shape s = units.shape.with_channels(out);
  T* sample = y.data<T>() + unit.n * s.voxels() * out;
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    const int64_t rows = std::min(kChunk, count - begin);
    for (int64_t p = 0; p < kPositions; ++p) {
      const T* from = v + p * pitch + begin * in;
      for (int64_t c = 0; c < out; c += width) {
        const T* weights = u + (p * out + c) * units.depth * in;
        float* to = m + p * kChunk * out + c;
        for (int64_t i = 0; i < rows; i += group) {
          const int64_t left = std::min(group, rows - i);
          const Multiply<T> multiply =
              width == kLanes ? multiply_for<T, 1>(in, left) : multiply_for<T, 2>(in, left);
          multiply(from + i * in, weights, units.depth, tiles * in, to + i * out, out);
        }
      }
    }
    for (int64_t i = 0; i < rows; ++i) {
      write_tile(m + i * out, kChunk * out, bias, slope, s, unit.first_plane + (begin + i) / tiles,
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

/// U of one input channel and 16 outputs.
struct Sixteen {
  Vector values[3][kPositions];
};

/// U for input channel i and the outputs o ... o+15. With `backward`, for a convolution with mirrored taps
/// from Co to Ci channels.
SEMIVOX_AVX512 Sixteen transform_sixteen(const float* w /* (Co, Ci, kD, 3, 3) */, int64_t ci, int64_t depth,
                                         bool backward, int64_t i, int64_t o) {
  const int64_t count = depth * 9;
  float taps[27][kLanes];
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    const float* from = w + (backward ? i * ci + o + lane : (o + lane) * ci + i) * count;
    for (int64_t tap = 0; tap < count; ++tap) taps[tap][lane] = from[backward ? count - 1 - tap : tap];
  }
  Sixteen u;
  for (int64_t kd = 0; kd < depth; ++kd) {
    Vector columns[3][4];
    for (int64_t kw = 0; kw < 3; ++kw) {
      const auto tap = [&](int64_t kh) { return taps[(kd * 3 + kh) * 3 + kw]; };
      transform_taps(load(tap(0)), load(tap(1)), load(tap(2)), columns[kw]);
    }
    for (int64_t row = 0; row < 4; ++row) {
      Vector values[4];
      transform_taps(columns[0][row], columns[1][row], columns[2][row], values);
      for (int64_t column = 0; column < 4; ++column) u.values[kd][4 * row + column] = values[column];
    }
  }
  return u;
}

/// Writes U of the input channels i and i+1, (16 positions, blocks of output channels, kD, Ci, width); in
/// bf16 the two side by side, (..., Ci / 2, width, 2).
SEMIVOX_AVX512 void write_two(const Sixteen (&two)[2], int64_t depth, int64_t in, int64_t out, int64_t i,
                              int64_t o, float* u) {
  const int64_t width = block_width(out);
  for (int64_t k = 0; k < 2; ++k) {
    for (int64_t kd = 0; kd < depth; ++kd) {
      for (int64_t p = 0; p < kPositions; ++p) {
        float* block = u + (p * out + o / width * width) * depth * in;
        store(block + (kd * in + i + k) * width + o % width, two[k].values[kd][p]);
      }
    }
  }
}
SEMIVOX_AVX512 void write_two(const Sixteen (&two)[2], int64_t depth, int64_t in, int64_t out, int64_t i,
                              int64_t o, bf16* u) {
  const int64_t width = block_width(out);
  for (int64_t kd = 0; kd < depth; ++kd) {
    for (int64_t p = 0; p < kPositions; ++p) {
      const auto pairs = interleaved(two[0].values[kd][p], two[1].values[kd][p]);
      bf16* block = u + (p * out + o / width * width) * depth * in;
      std::memcpy(static_cast<void*>(block + (kd * in + i) * width + o % width * 2), &pairs, sizeof pairs);
    }
  }
}

/// U of a layer; with `backward` that of the gradient of the input.
template <class T>
void transform_weights(const float* w /* (Co, Ci, kD, 3, 3) */, int64_t co, int64_t ci, int64_t depth,
                       bool backward, T* u) {
  const int64_t in = backward ? co : ci, out = backward ? ci : co, groups = in / kLanes;
  parallel_blocks(out / kLanes * groups, 1, [&](int64_t task, int64_t) {
    const int64_t o = task / groups * kLanes;
    for (int64_t i = task % groups * kLanes; i < (task % groups + 1) * kLanes; i += 2) {
      const Sixteen two[] = {transform_sixteen(w, ci, depth, backward, i, o),
                             transform_sixteen(w, ci, depth, backward, i + 1, o)};
      write_two(two, depth, in, out, i, o, u);
    }
  });
}

template <class T>
void convolve(const Tensor& x, const T* u, int64_t depth, const Tensor& bias, float slope, Tensor& y) {
  const int64_t in = x.shape().c, out = y.shape().c;
  const Units units(x.shape(), depth, in, sizeof(T), 1);
  const ThreadScratch scratch(columns_size(units, in) + kPositions * kChunk * out + input_size<T>(units, in));
  const float* b = bias.defined() ? bias.data<float>() : nullptr;
  parallel_blocks(units.count(), 1, [&](int64_t index, int64_t) {
    convolve_unit(x, u, b, slope, units, Unit(units, index), scratch.mine(), y);
  });
}

/// y = act(conv(x) + bias) in values of T, with the layer's transformed weights, cached with it.
template <class T>
void run(const ConvGeometry& g, const Tensor& x, const ConvWeights& weights, bool backward,
         const Tensor& bias, float slope, Tensor& y) {
  const auto type = std::is_same_v<T, bf16> ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
  const onednn::MemoryDesc desc({kPositions, g.kernel[0], g.in_channels, g.out_channels}, type,
                                dnnl::memory::format_tag::abcd);
  const dnnl::memory packed = onednn::packed_weights(weights, desc, backward, [&](const dnnl::memory& to) {
    transform_weights(weights.values.data<float>(), g.out_channels, g.in_channels, g.kernel[0], backward,
                      static_cast<T*>(to.get_data_handle()));
  });
  convolve(x, static_cast<const T*>(packed.get_data_handle()), g.kernel[0], bias, slope, y);
}

}  // namespace

bool takes(const ConvGeometry& g, const Tensor& x, const Tensor& y) {
  const auto fits = [](int64_t c) { return c == 16 || c == 32 || c == 64 || c == 128; };
  const bool available = x.dtype() == DType::f32    ? avx512::available()
                         : x.dtype() == DType::bf16 ? avx512::has_dot_products()
                                                    : false;
  return available && keeps_size(g) && fits(g.in_channels) && fits(g.out_channels) && x.dtype() == y.dtype();
}

void forward(const ConvGeometry& g, const Tensor& x, const ConvWeights& weights, const Tensor& bias,
             float slope, Tensor& y) {
  x.dtype() == DType::bf16 ? run<bf16>(g, x, weights, false, bias, slope, y)
                           : run<float>(g, x, weights, false, bias, slope, y);
}

void backward_data(const ConvGeometry& g, const Tensor& dy, const ConvWeights& weights, Tensor& dx) {
  dy.dtype() == DType::bf16 ? run<bf16>(g, dy, weights, true, {}, 1.0f, dx)
                            : run<float>(g, dy, weights, true, {}, 1.0f, dx);
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

}  // namespace semivox::kernels::winograd

#endif
