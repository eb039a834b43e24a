#include "kernels/conflict.hpp"

#include <cmath>

#include "kernels/channels.hpp"

namespace semivox::kernels {

namespace {

template <class T>
struct PairCosines {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* pairs;   // (rows, 2, F)
  double* cosines;  // (rows, 3)
  int64_t width;    // F
  SEMIVOX_HD void operator()(int64_t row) const {
    const T* a = pairs + row * 2 * width;
    const T* b = a + width;
    double ab = 0, aa = 0, bb = 0;
    for (int64_t c = 0; c < width; ++c) {
      const double x = static_cast<compute_t<T>>(a[c]), y = static_cast<compute_t<T>>(b[c]);
      ab += x * y;
      aa += x * x;
      bb += y * y;
    }
    const double inverse_a = aa > 0 ? 1 / sqrt(aa) : 0, inverse_b = bb > 0 ? 1 / sqrt(bb) : 0;
    double* out = cosines + row * 3;
    out[0] = ab * inverse_a * inverse_b;
    out[1] = inverse_a;
    out[2] = inverse_b;
  }
};

struct SumCosines {
  const double* cosines;  // (N, V, 3)
  int64_t voxels;
  SEMIVOX_HD void operator()(int64_t sample, int64_t v, double* sums) const {
    sums[0] += cosines[(sample * voxels + v) * 3];
  }
};

/// One thread.
struct ConflictValue {
  const double* sums;  // (N)
  double* value;       // (2)
  int64_t samples, rows;
  SEMIVOX_HD void operator()(int64_t) const {
    double total = 0;
    for (int64_t n = 0; n < samples; ++n) total += sums[n];
    value[1] = total / static_cast<double>(rows);
    value[0] = 2 * (1 + value[1]);
  }
};

// d cos / d a = (b / |b| - cos a / |a|) / |a|
template <class T>
struct ConflictGradient {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* pairs;          // (rows, 2, F)
  const double* cosines;   // (rows, 3)
  const double* upstream;  // (1)
  T* gradient;             // (rows, 2, F)
  int64_t width;
  double scale;  // 1 / rows
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t c) const {
    const double* at = cosines + row * 3;
    const bool first = c < width;
    const int64_t i = row * 2 * width + c;
    const double inverse = at[first ? 1 : 2], inverse_other = at[first ? 2 : 1];
    const double own = static_cast<compute_t<T>>(pairs[i]);
    const double other = static_cast<compute_t<T>>(pairs[first ? i + width : i - width]);
    const double g = (other * inverse_other - at[0] * own * inverse) * inverse * scale * upstream[0];
    gradient[i] = static_cast<compute_t<T>>(g);
  }
};

}  // namespace

Tensor pair_cosines(const Tensor& pairs) {
  const Shape shape = pairs.shape();
  SEMIVOX_CHECK(shape.c % 2 == 0, "pairs ", shape.str());
  Tensor cosines = Tensor::empty(shape.with_channels(3), DType::f64, pairs.device());
  dispatch_float(pairs.dtype(), [&](auto zero) {
    using T = decltype(zero);
    map(pairs.device(), "pair_cosines", shape.rows(),
        PairCosines<T>{pairs.data<T>(), cosines.data<double>(), shape.c / 2});
  });
  return cosines;
}

Tensor conflict_forward(const Tensor& cosines) {
  const Shape shape = cosines.shape();
  const Device device = cosines.device();
  const Tensor sums = Tensor::empty({1, shape.n, 1, 1, 1}, DType::f64, device, MemoryTag::workspace);
  Tensor value = Tensor::empty({1, 2, 1, 1, 1}, DType::f64, device);
  sum_samples<1>(device, "conflict.sum", shape.n, shape.voxels(),
                 SumCosines{cosines.data<double>(), shape.voxels()}, sums.data<double>());
  map(device, "conflict.value", 1,
      ConflictValue{sums.data<double>(), value.data<double>(), shape.n, shape.rows()});
  return value;
}

Tensor conflict_backward(const Tensor& pairs, const Tensor& cosines, const Tensor& upstream) {
  const Shape shape = pairs.shape();
  Tensor gradient = Tensor::empty(shape, pairs.dtype(), pairs.device());
  dispatch_float(pairs.dtype(), [&](auto zero) {
    using T = decltype(zero);
    map_channels(
        pairs.device(), "conflict.gradient", shape.n, shape.voxels(), shape.c,
        ConflictGradient<T>{pairs.data<T>(), cosines.data<double>(), upstream.data<double>(),
                            gradient.data<T>(), shape.c / 2, 1.0 / static_cast<double>(shape.rows())});
  });
  return gradient;
}

}  // namespace semivox::kernels
