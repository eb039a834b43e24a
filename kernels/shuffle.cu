#include "kernels/shuffle.hpp"

#include "kernels/channels.hpp"

namespace semivox::kernels {

namespace {

template <class T>
struct Concat {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* a;  // (rows, a_channels)
  const T* b;  // (rows, b_channels)
  T* out;      // (rows, a_channels + b_channels)
  int64_t a_channels, b_channels;
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t c) const {
    out[row * (a_channels + b_channels) + c] =
        c < a_channels ? a[row * a_channels + c] : b[row * b_channels + c - a_channels];
  }
};

template <class T>
struct Take {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* x;  // (rows, x_channels)
  T* out;      // (rows, channels)
  int64_t x_channels, first, channels;
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t c) const {
    out[row * channels + c] = x[row * x_channels + first + c];
  }
};

template <class T>
struct Repeat {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* x;  // (rows, 1)
  T* out;      // (rows, channels)
  int64_t channels;
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t c) const { out[row * channels + c] = x[row]; }
};

template <class T>
struct SumRow {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* x;  // (rows, channels)
  T* out;      // (rows, 1)
  int64_t channels;
  SEMIVOX_HD void operator()(int64_t row) const {
    compute_t<T> total = 0;
    for (int64_t c = 0; c < channels; ++c) total += static_cast<compute_t<T>>(x[row * channels + c]);
    out[row] = total;
  }
};

template <class T>
struct ChannelTerm {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* x;
  int64_t channels;
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t c, double (&terms)[1]) const {
    terms[0] = static_cast<compute_t<T>>(x[row * channels + c]);
  }
};

template <class P>
struct AddSums {
  const double* sums;  // (samples, C)
  P* target;           // (C)
  int64_t samples, channels;
  SEMIVOX_HD void operator()(int64_t c) const {
    double total = 0;
    for (int64_t n = 0; n < samples; ++n) total += sums[n * channels + c];
    target[c] += static_cast<P>(total);
  }
};

}  // namespace

Tensor concat_channels(const Tensor& a, const Tensor& b) {
  const Shape sa = a.shape(), sb = b.shape();
  SEMIVOX_CHECK(sa.with_channels(1) == sb.with_channels(1) && a.dtype() == b.dtype(), sa.str(), " with ",
                sb.str());
  Tensor out = Tensor::empty(sa.with_channels(sa.c + sb.c), a.dtype(), a.device());
  dispatch_float(a.dtype(), [&](auto zero) {
    using T = decltype(zero);
    map_channels(a.device(), "concat_channels", sa.n, sa.voxels(), sa.c + sb.c,
                 Concat<T>{a.data<T>(), b.data<T>(), out.data<T>(), sa.c, sb.c});
  });
  return out;
}

Tensor take_channels(const Tensor& x, int64_t first, int64_t count) {
  const Shape shape = x.shape();
  SEMIVOX_CHECK(first >= 0 && count > 0 && first + count <= shape.c, "channels ", first, "+", count, " of ",
                shape.str());
  Tensor out = Tensor::empty(shape.with_channels(count), x.dtype(), x.device());
  dispatch_float(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    map_channels(x.device(), "take_channels", shape.n, shape.voxels(), count,
                 Take<T>{x.data<T>(), out.data<T>(), shape.c, first, count});
  });
  return out;
}

Tensor repeat_channel(const Tensor& x, int64_t channels) {
  const Shape shape = x.shape();
  SEMIVOX_CHECK(shape.c == 1, "one channel expected, found ", shape.str());
  Tensor out = Tensor::empty(shape.with_channels(channels), x.dtype(), x.device());
  dispatch_float(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    map_channels(x.device(), "repeat_channel", shape.n, shape.voxels(), channels,
                 Repeat<T>{x.data<T>(), out.data<T>(), channels});
  });
  return out;
}

Tensor sum_over_channels(const Tensor& x) {
  Tensor out = Tensor::empty(x.shape().with_channels(1), x.dtype(), x.device());
  dispatch_float(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    map(x.device(), "sum_over_channels", x.shape().rows(),
        SumRow<T>{x.data<T>(), out.data<T>(), x.shape().c});
  });
  return out;
}

void add_channel_sums(const Tensor& x, Tensor& sums) {
  const Shape shape = x.shape();
  SEMIVOX_CHECK(sums.elements() == shape.c, sums.elements(), " sums for ", shape.str());
  const Tensor partial =
      Tensor::empty({1, shape.n * shape.c, 1, 1, 1}, DType::f64, x.device(), MemoryTag::workspace);
  dispatch_float(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    sum_channels<1>(x.device(), "channel_sums", shape.n, shape.voxels(), shape.c,
                    ChannelTerm<T>{x.data<T>(), shape.c}, partial.data<double>());
  });
  if (sums.dtype() == DType::f64) {
    map(x.device(), "add_sums", shape.c,
        AddSums<double>{partial.data<double>(), sums.data<double>(), shape.n, shape.c});
  } else {
    map(x.device(), "add_sums", shape.c,
        AddSums<float>{partial.data<double>(), sums.data<float>(), shape.n, shape.c});
  }
}

}  // namespace semivox::kernels
