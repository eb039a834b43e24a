// Convolution in plain loops, f32 and f64: the specification of the other variants and the oracle of their
// tests. Every output element is computed by one thread in a fixed order, so the thread count never shows in
// the result.

#include <vector>

#include "engine/parallel.hpp"
#include "kernels/conv_grids.hpp"

namespace semivox::kernels::reference {

namespace {

/// Fine coordinate that coarse coordinate `o` touches with tap `k`, -1 outside the grid.
int64_t fine_index(const ConvGeometry& g, int axis, int64_t o, int64_t k, int64_t size) {
  const int64_t i = o * g.stride[axis] - g.padding[axis] + k * g.dilation;
  return i >= 0 && i < size ? i : -1;
}

/// Coarse coordinate that touches fine coordinate `i` with tap `k`, -1 when there is none.
int64_t coarse_index(const ConvGeometry& g, int axis, int64_t i, int64_t k, int64_t size) {
  const int64_t scaled = i + g.padding[axis] - k * g.dilation;
  if (scaled < 0 || scaled % g.stride[axis] != 0) return -1;
  const int64_t o = scaled / g.stride[axis];
  return o < size ? o : -1;
}

/// Weights (coarse, fine, taps) in the order of the loops, (taps, from, to).
template <class T>
std::vector<T> ordered_weights(const Tensor& values, int64_t coarse, int64_t fine, int64_t taps,
                               bool from_fine) {
  const T* w = values.data<T>();
  std::vector<T> ordered(static_cast<size_t>(coarse * fine * taps));
  for (int64_t c = 0; c < coarse; ++c) {
    for (int64_t f = 0; f < fine; ++f) {
      for (int64_t k = 0; k < taps; ++k) {
        const int64_t to = from_fine ? (k * fine + f) * coarse + c : (k * coarse + c) * fine + f;
        ordered[static_cast<size_t>(to)] = w[(c * fine + f) * taps + k];
      }
    }
  }
  return ordered;
}

/// out(voxel) = bias + sum over taps and input channels of in(source(voxel, tap)) * weight(tap).
/// `source(axis, index, tap, size)` is one of the two functions above, `weights` (taps, in channels, out
/// channels).
template <class T, class Source>
void sum_over_taps(const ConvGeometry& g, const Tensor& in_tensor, const T* weights, const Tensor& bias,
                   Tensor& out_tensor, const Source& source) {
  const Shape in_shape = in_tensor.shape(), out_shape = out_tensor.shape();
  const T* in = in_tensor.data<T>();  // (N, D, H, W, in channels)
  const T* b = bias.defined() ? bias.data<T>() : nullptr;
  T* out = out_tensor.data<T>();  // (N, D', H', W', out channels)
  const int64_t ci = in_shape.c, co = out_shape.c;
  parallel_blocks(out_shape.n * out_shape.d * out_shape.h, 1, [&](int64_t row, int64_t) {
    const int64_t oh = row % out_shape.h, od = row / out_shape.h % out_shape.d,
                  n = row / out_shape.h / out_shape.d;
    T* out_row = out + row * out_shape.w * co;
    for (int64_t i = 0; i < out_shape.w * co; ++i) out_row[i] = b ? b[i % co] : T(0);
    for (int64_t kd = 0; kd < g.kernel[0]; ++kd) {
      const int64_t d = source(g, 0, od, kd, in_shape.d);
      if (d < 0) continue;
      for (int64_t kh = 0; kh < g.kernel[1]; ++kh) {
        const int64_t h = source(g, 1, oh, kh, in_shape.h);
        if (h < 0) continue;
        const T* in_row = in + ((n * in_shape.d + d) * in_shape.h + h) * in_shape.w * ci;
        for (int64_t kw = 0; kw < g.kernel[2]; ++kw) {
          const T* tap_weights = weights + ((kd * g.kernel[1] + kh) * g.kernel[2] + kw) * ci * co;
          for (int64_t ow = 0; ow < out_shape.w; ++ow) {
            const int64_t w = source(g, 2, ow, kw, in_shape.w);
            if (w < 0) continue;
            for (int64_t i = 0; i < ci; ++i) {
              const T value = in_row[w * ci + i];
              const T* from_channel = tap_weights + i * co;
              T* voxel = out_row + ow * co;
#pragma omp simd
              for (int64_t o = 0; o < co; ++o) voxel[o] += value * from_channel[o];
            }
          }
        }
      }
    }
  });
}

template <class T>
void to_coarse(const ConvGeometry& g, const Tensor& fine, const ConvWeights& w, const Tensor& bias,
               Tensor& coarse) {
  const auto ordered = ordered_weights<T>(w.values, coarse.shape().c, fine.shape().c, tap_count(g), true);
  sum_over_taps<T>(g, fine, ordered.data(), bias, coarse, fine_index);
}

template <class T>
void to_fine(const ConvGeometry& g, const Tensor& coarse, const ConvWeights& w, const Tensor& bias,
             Tensor& fine) {
  const auto ordered = ordered_weights<T>(w.values, coarse.shape().c, fine.shape().c, tap_count(g), false);
  sum_over_taps<T>(g, coarse, ordered.data(), bias, fine, coarse_index);
}

/// dw(c, f, tap) += sum over coarse voxels of fine(voxel + tap, f) * coarse(voxel, c), in double.
template <class T>
void add_weight_gradient(const ConvGeometry& g, const Tensor& fine_tensor, const Tensor& coarse_tensor,
                         Tensor& dw) {
  const Shape fs = fine_tensor.shape(), cs = coarse_tensor.shape();
  const T* fine = fine_tensor.data<T>();
  const T* coarse = coarse_tensor.data<T>();
  T* gradient = dw.data<T>();  // (coarse channels, fine channels, kD, kH, kW)
  const int64_t taps = tap_count(g);
  parallel_blocks(taps * fs.c, 1, [&](int64_t index, int64_t) {
    const int64_t tap = index / fs.c, f = index % fs.c;
    const int64_t kw = tap % g.kernel[2], kh = tap / g.kernel[2] % g.kernel[1],
                  kd = tap / g.kernel[2] / g.kernel[1];
    std::vector<double> sums(static_cast<size_t>(cs.c));
    for (int64_t n = 0; n < cs.n; ++n) {
      for (int64_t od = 0; od < cs.d; ++od) {
        const int64_t d = fine_index(g, 0, od, kd, fs.d);
        if (d < 0) continue;
        for (int64_t oh = 0; oh < cs.h; ++oh) {
          const int64_t h = fine_index(g, 1, oh, kh, fs.h);
          if (h < 0) continue;
          for (int64_t ow = 0; ow < cs.w; ++ow) {
            const int64_t w = fine_index(g, 2, ow, kw, fs.w);
            if (w < 0) continue;
            const double value = fine[(((n * fs.d + d) * fs.h + h) * fs.w + w) * fs.c + f];
            const T* voxel = coarse + (((n * cs.d + od) * cs.h + oh) * cs.w + ow) * cs.c;
            double* sum = sums.data();
#pragma omp simd
            for (int64_t c = 0; c < cs.c; ++c) sum[c] += value * static_cast<double>(voxel[c]);
          }
        }
      }
    }
    for (int64_t c = 0; c < cs.c; ++c) {
      gradient[(c * fs.c + f) * taps + tap] += static_cast<T>(sums[static_cast<size_t>(c)]);
    }
  });
}

/// Calls `f` with float{} or double{}.
template <class F>
void dispatch(DType dtype, const F& f) {
  SEMIVOX_CHECK(dtype == DType::f32 || dtype == DType::f64, "reference convolution takes f32 and f64, found ",
                name_of(dtype));
  if (dtype == DType::f32) return f(float{});
  f(double{});
}

}  // namespace

void conv_forward(const ConvGeometry& g, const Tensor& x, const ConvWeights& weights, const Tensor& bias,
                  Tensor& y) {
  dispatch(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    if (g.transposed) return to_fine<T>(g, x, weights, bias, y);
    to_coarse<T>(g, x, weights, bias, y);
  });
}

void conv_backward_data(const ConvGeometry& g, const Tensor& dy, const ConvWeights& weights, Tensor& dx) {
  dispatch(dx.dtype(), [&](auto zero) {
    using T = decltype(zero);
    if (g.transposed) return to_coarse<T>(g, dy, weights, {}, dx);
    to_fine<T>(g, dy, weights, {}, dx);
  });
}

void conv_backward_weights(const ConvGeometry& g, const Tensor& x, const Tensor& dy, Tensor& dw) {
  dispatch(x.dtype(), [&](auto zero) {
    add_weight_gradient<decltype(zero)>(g, g.transposed ? dy : x, g.transposed ? x : dy, dw);
  });
}

}  // namespace semivox::kernels::reference
