#include "kernels/pool.hpp"

#include "kernels/channels.hpp"

namespace semivox::kernels {

namespace {

/// Where the windows of the pooled map lie in the map before, in elements. kDepth: voxels of a window along
/// D.
template <int kDepth>
struct Windows {
  static constexpr int kVoxels = kDepth * 4;
  int64_t height, width;  // of the pooled map
  int64_t channels;
  int64_t line = 2 * width * channels, plane = 2 * height * line;  // of the map before
  /// Channel 0 of the first voxel of the window of pooled voxel `row`. Samples need no separation: D is the
  /// outermost axis.
  SEMIVOX_HD int64_t corner(int64_t row) const {
    const int64_t w = row % width, h = row / width % height, d = row / width / height;
    return d * kDepth * plane + 2 * h * line + 2 * w * channels;
  }
  /// Voxel k of a window, in memory order, relative to the corner. Short, so that loops over k are unrolled
  /// and vectors run along the channels.
  SEMIVOX_HD int64_t offset(int k) const { return k / 4 * plane + k / 2 % 2 * line + k % 2 * channels; }
};

template <class P>
SEMIVOX_HD bool exceeds(P value, P best) {
  return value > best || value != value;
}

template <class T, int kDepth>
struct MaxPool {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  using P = compute_t<T>;
  const T* x;  // (N, D, H, W, C)
  T* out;      // pooled
  Windows<kDepth> windows;
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t c) const {
    const T* window = x + windows.corner(row) + c;
    P best = static_cast<P>(window[0]);
    for (int k = 1; k < Windows<kDepth>::kVoxels; ++k) {
      const P value = static_cast<P>(window[windows.offset(k)]);
      best = exceeds(value, best) ? value : best;
    }
    out[row * windows.channels + c] = best;
  }
};

template <class T, int kDepth>
struct MaxPoolBackward {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  using P = compute_t<T>;
  const T* x;   // (N, D, H, W, C)
  const T* dy;  // pooled
  T* dx;        // (N, D, H, W, C)
  Windows<kDepth> windows;
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t c) const {
    constexpr int kVoxels = Windows<kDepth>::kVoxels;
    const int64_t corner = windows.corner(row) + c;
    P best = static_cast<P>(x[corner]);
    int at = 0;
    for (int k = 1; k < kVoxels; ++k) {
      const P value = static_cast<P>(x[corner + windows.offset(k)]);
      at = exceeds(value, best) ? k : at;
      best = exceeds(value, best) ? value : best;
    }
    const P gradient = static_cast<P>(dy[row * windows.channels + c]);
    for (int k = 0; k < kVoxels; ++k) dx[corner + windows.offset(k)] = k == at ? gradient : P(0);
  }
};

template <class T>
struct ChannelValue {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* x;  // (N, D, H, W, C)
  int64_t channels;
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t c, double (&terms)[1]) const {
    terms[0] = static_cast<compute_t<T>>(x[row * channels + c]);
  }
};

template <class T>
struct DivideSums {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const double* sums;  // (N, C)
  T* out;              // (N, C)
  double voxels;
  SEMIVOX_HD void operator()(int64_t i) const { out[i] = static_cast<compute_t<T>>(sums[i] / voxels); }
};

template <class T>
struct SpreadMean {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  using P = compute_t<T>;
  const T* dy;  // (N, C)
  T* dx;        // (N, D, H, W, C)
  int64_t channels;
  double voxels;
  SEMIVOX_HD void operator()(int64_t n, int64_t row, int64_t c) const {
    dx[row * channels + c] = static_cast<P>(dy[n * channels + c]) / static_cast<P>(voxels);
  }
};

Shape pooled_shape(const Shape& s, Grid grid) {
  const int64_t depth = grid == Grid::volume ? 2 : 1;
  SEMIVOX_CHECK(s.d % depth == 0 && s.h % 2 == 0 && s.w % 2 == 0, "max-pool of ", s.str(), ": odd size");
  return {s.n, s.c, s.d / depth, s.h / 2, s.w / 2};
}

/// Calls f with the number of voxels of a window along D.
template <class F>
void with_depth(Grid grid, const F& f) {
  if (grid == Grid::volume) return f(std::integral_constant<int, 2>{});
  f(std::integral_constant<int, 1>{});
}

}  // namespace

Tensor max_pool(const Tensor& x, Grid grid) {
  const Shape shape = pooled_shape(x.shape(), grid);
  Tensor out = Tensor::empty(shape, x.dtype(), x.device());
  dispatch_float(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    with_depth(grid, [&](auto depth) {
      map_channels(x.device(), "max_pool", 1, shape.rows(), shape.c,
                   MaxPool<T, depth.value>{x.data<T>(), out.data<T>(), {shape.h, shape.w, shape.c}});
    });
  });
  return out;
}

Tensor max_pool_backward(const Tensor& x, const Tensor& dy, Grid grid) {
  const Shape shape = pooled_shape(x.shape(), grid);
  SEMIVOX_CHECK(dy.shape() == shape, "gradient ", dy.shape().str(), " for a pooled ", shape.str());
  Tensor dx = Tensor::empty(x.shape(), x.dtype(), x.device());
  dispatch_float(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    with_depth(grid, [&](auto depth) {
      map_channels(x.device(), "max_pool_backward", 1, shape.rows(), shape.c,
                   MaxPoolBackward<T, depth.value>{
                       x.data<T>(), dy.data<T>(), dx.data<T>(), {shape.h, shape.w, shape.c}});
    });
  });
  return dx;
}

Tensor global_average(const Tensor& x) {
  const Shape shape = x.shape();
  Tensor out = Tensor::empty({shape.n, shape.c, 1, 1, 1}, x.dtype(), x.device());
  const Tensor sums =
      Tensor::empty({1, shape.n * shape.c, 1, 1, 1}, DType::f64, x.device(), MemoryTag::workspace);
  dispatch_float(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    sum_channels<1>(x.device(), "global_average", shape.n, shape.voxels(), shape.c,
                    ChannelValue<T>{x.data<T>(), shape.c}, sums.data<double>());
    map(x.device(), "divide_sums", shape.n * shape.c,
        DivideSums<T>{sums.data<double>(), out.data<T>(), static_cast<double>(shape.voxels())});
  });
  return out;
}

Tensor global_average_backward(const Tensor& dy, const Shape& shape) {
  SEMIVOX_CHECK(dy.shape() == Shape({shape.n, shape.c, 1, 1, 1}), "gradient ", dy.shape().str(), " for ",
                shape.str());
  Tensor dx = Tensor::empty(shape, dy.dtype(), dy.device());
  dispatch_float(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    map_channels(dy.device(), "global_average_backward", shape.n, shape.voxels(), shape.c,
                 SpreadMean<T>{dy.data<T>(), dx.data<T>(), shape.c, static_cast<double>(shape.voxels())});
  });
  return dx;
}

}  // namespace semivox::kernels
