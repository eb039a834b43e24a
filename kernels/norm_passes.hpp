// What the passes of kernels/norm.cu over the feature maps do with an element: functors for the drivers of
// kernels/channel_packs.hpp.
//
// y (N, V, C) is the convolution's output, scale and shift (N, C) make z = y * scale + shift [+ drop * skip]
// of it, which enters the activation with its slope (C) below zero.
#pragma once

#include <type_traits>

#include "kernels/channel_packs.hpp"
#include "kernels/norm.hpp"

namespace semivox::kernels::norm_passes {

// Sums of y and of y^2.
template <class T>
struct Moments {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  using element = T;
  struct Channel {};
  const T* y;  // (N, V, C)
  SEMIVOX_HD Channel channel(int64_t, int64_t) const { return {}; }
  template <int W>
  SEMIVOX_HD void add(const Channel (&)[W], int64_t i, double (&sums)[2][W]) const {
    const Pack<T, W> values = load_pack<W>(y + i);
    SEMIVOX_UNROLL
    for (int w = 0; w < W; ++w) {
      const double value = static_cast<compute_t<T>>(values[w]);
      sums[0][w] += value;
      sums[1][w] += value * value;
    }
  }
};

// The constants of a (sample, channel), and z.
template <class P, Skip kSkip>
struct Activation {
  struct Channel {
    P scale, shift, slope, drop;
    SEMIVOX_HD P z(P y, P skip) const {
      const P z = y * scale + shift;
      return kSkip == Skip::before ? z + drop * skip : z;
    }
  };
  const P* scale;  // (N, C)
  const P* shift;  // (N, C)
  const P* slope;  // (C)
  const P* drop;   // (N, C), Skip::before only
  int64_t channels;
  SEMIVOX_HD Channel channel(int64_t n, int64_t c) const {
    const int64_t k = n * channels + c;
    return {scale[k], shift[k], slope[c], kSkip == Skip::before ? drop[k] : P(1)};
  }
};

// out = act(z) [+ skip].
template <class T, Skip kSkip>
struct Apply {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  using element = T;
  using P = compute_t<T>;
  using Channel = typename Activation<P, kSkip>::Channel;
  Activation<P, kSkip> activation;
  const T* y;     // (N, V, C)
  const T* skip;  // (N, V, C) or null
  T* out;         // (N, V, C)
  SEMIVOX_HD Channel channel(int64_t n, int64_t c) const { return activation.channel(n, c); }
  template <int W>
  SEMIVOX_HD void apply(const Channel (&channels)[W], int64_t i) const {
    const Pack<T, W> ys = load_pack<W>(y + i), skips = kSkip == Skip::none ? ys : load_pack<W>(skip + i);
    Pack<T, W> outs;
    SEMIVOX_UNROLL
    for (int w = 0; w < W; ++w) {
      const P z = channels[w].z(ys[w], skips[w]);
      const P a = z > P(0) ? z : channels[w].slope * z;
      outs[w] = kSkip == Skip::after ? a + static_cast<P>(skips[w]) : a;
    }
    store_pack(out + i, outs);
  }
};

// Sums of dz, of dz * y and, where the slope learns, of d_out * z below zero: of them the gradients of the
// parameters are made.
template <class T, Skip kSkip, bool kSlopeLearns>
struct BackwardSums {
  static constexpr int kSums = kSlopeLearns ? 3 : 2;
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  using element = T;
  using P = compute_t<T>;
  using Channel = typename Activation<P, kSkip>::Channel;
  Activation<P, kSkip> activation;
  const T* y;
  const T* skip;
  const T* d_out;
  SEMIVOX_HD Channel channel(int64_t n, int64_t c) const { return activation.channel(n, c); }
  template <int W>
  SEMIVOX_HD void add(const Channel (&channels)[W], int64_t i, double (&sums)[kSums][W]) const {
    const Pack<T, W> ys = load_pack<W>(y + i), ds = load_pack<W>(d_out + i),
                     skips = kSkip == Skip::before ? load_pack<W>(skip + i) : ys;
    SEMIVOX_UNROLL
    for (int w = 0; w < W; ++w) {
      const P value = ys[w], d = ds[w];
      const P z = channels[w].z(value, skips[w]);
      const P dz = z > P(0) ? d : channels[w].slope * d;
      sums[0][w] += dz;
      sums[1][w] += static_cast<double>(dz) * value;
      if constexpr (kSlopeLearns) sums[2][w] += z > P(0) ? P(0) : d * z;
    }
  }
};

// d_y = a * dz + b * y + k, and d_skip = drop * dz where the skip enters before the activation.
template <class T, Skip kSkip>
struct BackwardApply {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  using element = T;
  using P = compute_t<T>;
  struct Channel : Activation<P, kSkip>::Channel {
    P a, b, k;
  };
  Activation<P, kSkip> activation;
  const T* y;
  const T* skip;
  const T* d_out;
  T* d_y;              // may be d_out itself
  T* d_skip;           // Skip::before only
  const P *a, *b, *k;  // (N, C)
  SEMIVOX_HD Channel channel(int64_t n, int64_t c) const {
    const int64_t j = n * activation.channels + c;
    return {activation.channel(n, c), a[j], b[j], k[j]};
  }
  template <int W>
  SEMIVOX_HD void apply(const Channel (&channels)[W], int64_t i) const {
    const Pack<T, W> ys = load_pack<W>(y + i), ds = load_pack<W>(d_out + i),
                     skips = kSkip == Skip::before ? load_pack<W>(skip + i) : ys;
    Pack<T, W> d_ys, d_skips;
    SEMIVOX_UNROLL
    for (int w = 0; w < W; ++w) {
      const Channel& channel = channels[w];
      const P value = ys[w], d = ds[w];
      const P dz = channel.z(value, skips[w]) > P(0) ? d : channel.slope * d;
      d_skips[w] = channel.drop * dz;
      d_ys[w] = channel.a * dz + channel.b * value + channel.k;
    }
    if constexpr (kSkip == Skip::before) store_pack(d_skip + i, d_skips);
    store_pack(d_y + i, d_ys);
  }
};

// y = act(y + bias) [+ skip] in place.
template <class T, Skip kSkip>
struct Activate {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  using element = T;
  using P = compute_t<T>;
  struct Channel {
    P bias;
  };
  T* y;
  const T* skip;  // or null
  const P* bias;  // (C) or null
  P slope;
  SEMIVOX_HD Channel channel(int64_t, int64_t c) const { return {bias == nullptr ? P(0) : bias[c]}; }
  template <int W>
  SEMIVOX_HD void apply(const Channel (&channels)[W], int64_t i) const {
    Pack<T, W> ys = load_pack<W>(y + i);
    const Pack<T, W> skips = kSkip == Skip::after ? load_pack<W>(skip + i) : ys;
    SEMIVOX_UNROLL
    for (int w = 0; w < W; ++w) {
      const P z = static_cast<P>(ys[w]) + channels[w].bias, a = z > P(0) ? z : slope * z;
      ys[w] = kSkip == Skip::after ? a + static_cast<P>(skips[w]) : a;
    }
    store_pack(y + i, ys);
  }
};

}  // namespace semivox::kernels::norm_passes
