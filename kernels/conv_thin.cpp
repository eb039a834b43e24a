#include "kernels/conv_thin.hpp"

#if defined(__x86_64__)

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "engine/parallel.hpp"
#include "kernels/avx512.hpp"

namespace semivox::kernels::thin {

namespace {

using avx512::load;
using avx512::store;
using avx512::Vector;

constexpr int64_t kMostInputs = 4;
constexpr int kVoxels = 8;      // neighbours along W that share the loads of the weights
constexpr int64_t kTasks = 64;  // partial sums of the weight gradient

/// The input planes under one output plane as f32 with zero margins: (kD, H + 2, Ci, W + margins).
class Planes {
 public:
  Planes(const ConvGeometry& g, const Shape& s)
      : depth_(g.kernel[0]),
        shape_(s),
        pitch_(s.w + 2 + kVoxels),
        values_(static_cast<size_t>(depth_ * (s.h + 2) * s.c * pitch_)) {}

  /// Rows of the kernel, kD * 3.
  int64_t kernel_rows() const { return depth_ * 3; }

  /// What kernel row i meets at output row h, from the left margin on.
  const float* row(int64_t i, int64_t h, int64_t channel) const {
    return values_.data() + ((i / 3 * (shape_.h + 2) + h + i % 3) * shape_.c + channel) * pitch_;
  }

  template <class T>
  void read(const T* x /* (N, D, H, W, Ci) */, int64_t n, int64_t d) {
    std::fill(values_.begin(), values_.end(), 0.0f);
    for (int64_t k = 0; k < depth_; ++k) {
      const int64_t plane = d + k - depth_ / 2;
      if (plane < 0 || plane >= shape_.d) continue;
      for (int64_t h = 0; h < shape_.h; ++h) {
        const T* from = x + ((n * shape_.d + plane) * shape_.h + h) * shape_.w * shape_.c;
        for (int64_t c = 0; c < shape_.c; ++c) {
          float* to = values_.data() + ((k * (shape_.h + 2) + h + 1) * shape_.c + c) * pitch_ + 1;
          if (shape_.c == 1) {  // without a stride the loop becomes vectors
            for (int64_t w = 0; w < shape_.w; ++w) to[w] = static_cast<float>(from[w]);
          } else {
            for (int64_t w = 0; w < shape_.w; ++w) to[w] = static_cast<float>(from[w * shape_.c + c]);
          }
        }
      }
    }
  }

 private:
  int64_t depth_;
  Shape shape_;
  int64_t pitch_;
  std::vector<float> values_;
};

/// One output row, `Lanes` channels of it.
template <int Lanes, class T>
SEMIVOX_AVX512 void convolve_row(const Planes& planes, int64_t h, const Shape& in,
                                 const float* weights /* (rows, Ci, 3, Co) */, const float* bias, float slope,
                                 int64_t out, T* y /* (W, Co) */) {
  const Vector<Lanes> zero = {}, b = bias != nullptr ? load<Lanes>(bias) : zero;
  const float* rows[9 * kMostInputs];
  const int64_t count_of_rows = planes.kernel_rows() * in.c;
  for (int64_t r = 0; r < count_of_rows; ++r) rows[r] = planes.row(r / in.c, h, r % in.c);
  for (int64_t w = 0; w < in.w; w += kVoxels) {
    Vector<Lanes> sums[kVoxels];
    for (int i = 0; i < kVoxels; ++i) sums[i] = b;
    for (int64_t r = 0; r < count_of_rows; ++r) {
      const float* x = rows[r] + w;
      for (int k = 0; k < 3; ++k) {
        const Vector<Lanes> tap = load<Lanes>(weights + (r * 3 + k) * out);
#pragma GCC unroll 8
        for (int i = 0; i < kVoxels; ++i) sums[i] += x[i + k] * tap;
      }
    }
    const int64_t count = std::min<int64_t>(kVoxels, in.w - w);
    for (int64_t i = 0; i < count; ++i) {
      const Vector<Lanes> z = sums[i];
      store<Lanes>(y + (w + i) * out, z > zero ? z : slope * z);
    }
  }
}

/// Adds one output row's part of the weight gradient for one input and `Lanes` output channels, (kernel rows,
/// 3, Lanes).
template <int Lanes, int KernelRows, class T>
SEMIVOX_AVX512 void add_row(const Planes& planes, int64_t h, int64_t channel, int64_t width,
                            const T* dy /* (W, Co) */, int64_t out, double* sums) {
  const float* x[KernelRows];
  for (int r = 0; r < KernelRows; ++r) x[r] = planes.row(r, h, channel);
  Vector<Lanes> taps[KernelRows * 3] = {};
  for (int64_t w = 0; w < width; ++w) {
    const Vector<Lanes> gradient = load<Lanes>(dy + w * out);
#pragma GCC unroll 9
    for (int r = 0; r < KernelRows; ++r) {
#pragma GCC unroll 3
      for (int k = 0; k < 3; ++k) taps[r * 3 + k] += x[r][w + k] * gradient;
    }
  }
  for (int t = 0; t < KernelRows * 3; ++t) {
    for (int lane = 0; lane < Lanes; ++lane) sums[t * Lanes + lane] += taps[t][lane];
  }
}

/// Calls `f(zero of the tensor's type, number of lanes as a constant)`.
template <class F>
void dispatch(const Tensor& tensor, int64_t out_channels, const F& f) {
  const bool whole = out_channels % 16 == 0;
  using Sixteen = std::integral_constant<int, 16>;
  using Eight = std::integral_constant<int, 8>;
  if (tensor.dtype() == DType::bf16) return whole ? f(bf16{}, Sixteen{}) : f(bf16{}, Eight{});
  return whole ? f(float{}, Sixteen{}) : f(float{}, Eight{});
}

}  // namespace

bool takes(const ConvGeometry& g, const Tensor& x, const Tensor& y) {
  return avx512::available() && keeps_size(g) && g.in_channels <= kMostInputs && g.out_channels % 8 == 0 &&
         x.dtype() == y.dtype() && (x.dtype() == DType::f32 || x.dtype() == DType::bf16);
}

void forward(const ConvGeometry& g, const Tensor& x, const ConvWeights& weights, const Tensor& bias,
             float slope, Tensor& y) {
  const Shape in = x.shape();
  const int64_t out = g.out_channels, taps = tap_count(g);
  std::vector<float> packed(static_cast<size_t>(g.weight_count()));  // (kernel rows, Ci, 3, Co)
  const float* w = weights.values.data<float>();                     // (Co, Ci, kernel rows, 3)
  for (int64_t o = 0; o < out; ++o) {
    for (int64_t c = 0; c < in.c; ++c) {
      for (int64_t t = 0; t < taps; ++t) {
        packed[static_cast<size_t>(((t / 3 * in.c + c) * 3 + t % 3) * out + o)] =
            w[(o * in.c + c) * taps + t];
      }
    }
  }
  dispatch(x, out, [&](auto zero, auto lanes) {
    using T = decltype(zero);
    const float* b = bias.defined() ? bias.data<float>() : nullptr;
    parallel_blocks(in.n * in.d, 1, [&](int64_t plane, int64_t) {
      Planes planes(g, in);
      planes.read(x.data<T>(), plane / in.d, plane % in.d);
      for (int64_t h = 0; h < in.h; ++h) {
        for (int64_t o = 0; o < out; o += lanes) {
          convolve_row<lanes>(planes, h, in, packed.data() + o, b != nullptr ? b + o : nullptr, slope, out,
                              y.data<T>() + (plane * in.h + h) * in.w * out + o);
        }
      }
    });
  });
}

void backward_weights(const ConvGeometry& g, const Tensor& x, const Tensor& dy, Tensor& dw) {
  const Shape in = x.shape();
  const int64_t out = g.out_channels, taps = tap_count(g), count = g.weight_count();
  const int64_t count_of_planes = in.n * in.d, tasks = std::min(kTasks, count_of_planes);
  const Tensor partials = Tensor::zeros({1, tasks * count, 1, 1, 1}, DType::f64, {}, MemoryTag::workspace);
  double* sums = partials.data<double>();  // (tasks, Ci, Co / lanes, taps, lanes)
  float* to = dw.data<float>();            // (Co, Ci, taps)
  dispatch(x, out, [&](auto zero, auto lanes) {
    using T = decltype(zero);
    const int64_t blocks = out / lanes;
    parallel_blocks(tasks, 1, [&](int64_t task, int64_t) {
      Planes planes(g, in);
      for (int64_t plane = count_of_planes * task / tasks; plane < count_of_planes * (task + 1) / tasks;
           ++plane) {
        planes.read(x.data<T>(), plane / in.d, plane % in.d);
        for (int64_t h = 0; h < in.h; ++h) {
          for (int64_t i = 0; i < in.c * blocks; ++i) {
            const T* gradient = dy.data<T>() + (plane * in.h + h) * in.w * out + i % blocks * lanes;
            double* task_sums = sums + task * count + i * taps * lanes;
            if (g.kernel[0] == 3) {
              add_row<lanes, 9>(planes, h, i / blocks, in.w, gradient, out, task_sums);
            } else {
              add_row<lanes, 3>(planes, h, i / blocks, in.w, gradient, out, task_sums);
            }
          }
        }
      }
    });
    for (int64_t o = 0; o < out; ++o) {
      for (int64_t c = 0; c < in.c; ++c) {
        for (int64_t t = 0; t < taps; ++t) {
          double total = 0;
          for (int64_t task = 0; task < tasks; ++task) {
            total += sums[task * count + ((c * blocks + o / lanes) * taps + t) * lanes + o % lanes];
          }
          to[(o * in.c + c) * taps + t] += static_cast<float>(total);
        }
      }
    }
  });
}

}  // namespace semivox::kernels::thin

#else

namespace semivox::kernels::thin {

bool takes(const ConvGeometry&, const Tensor&, const Tensor&) { return false; }

void forward(const ConvGeometry&, const Tensor&, const ConvWeights&, const Tensor&, float, Tensor&) {
  throw InternalError("this processor has no 512-bit vectors");
}
void backward_weights(const ConvGeometry&, const Tensor&, const Tensor&, Tensor&) {
  throw InternalError("this processor has no 512-bit vectors");
}

}  // namespace semivox::kernels::thin

#endif
