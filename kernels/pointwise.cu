#include "kernels/pointwise.hpp"

#include <cmath>

#include "engine/launch.hpp"

namespace semivox::kernels {

namespace {

template <class T>
struct TanhForward {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  using P = compute_t<T>;
  const T* x;
  T* y;
  SEMIVOX_HD void operator()(int64_t i) const { y[i] = static_cast<P>(tanh(static_cast<P>(x[i]))); }
};

template <class T>
struct TanhBackward {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  using P = compute_t<T>;
  const T* y;
  const T* dy;
  T* dx;
  SEMIVOX_HD void operator()(int64_t i) const {
    const P value = static_cast<P>(y[i]);
    dx[i] = static_cast<P>(dy[i]) * (P(1) - value * value);
  }
};

// Elements 4 * quad ... 4 * quad + 3, from one block of random numbers. No branch for a last, shorter quad:
// without it g++ makes vectors over several quads, which are four times as fast.
template <class T>
struct DropoutQuads {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  using P = compute_t<T>;
  const T* x;
  T* out;
  float probability;
  P factor;
  RandomStream random;
  SEMIVOX_HD void drop(int64_t i, float drawn) const {
    const P value = static_cast<P>(x[i]);
    out[i] = drawn < probability ? P(0) : factor * value;
  }
  SEMIVOX_HD void operator()(int64_t quad) const {
    const PhiloxBlock words = random.block(static_cast<uint64_t>(quad));
    for (int k = 0; k < 4; ++k) drop(4 * quad + k, unit_float(words.word[k]));
  }
};

// The elements from `first` on that are no whole quad, with the same numbers as if they were.
template <class T>
struct DropoutRest {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  DropoutQuads<T> quads;
  int64_t first;
  SEMIVOX_HD void operator()(int64_t i) const {
    quads.drop(first + i, quads.random.uniform(static_cast<uint64_t>(first + i)));
  }
};

}  // namespace

Tensor tanh_forward(const Tensor& x) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  dispatch_float(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    map(x.device(), "tanh", x.elements(), TanhForward<T>{x.data<T>(), y.data<T>()});
  });
  return y;
}

Tensor tanh_backward(const Tensor& y, const Tensor& dy) {
  SEMIVOX_CHECK(y.shape() == dy.shape(), "gradient ", dy.shape().str(), " for ", y.shape().str());
  Tensor dx = Tensor::empty(y.shape(), y.dtype(), y.device());
  dispatch_float(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    map(y.device(), "tanh_backward", y.elements(), TanhBackward<T>{y.data<T>(), dy.data<T>(), dx.data<T>()});
  });
  return dx;
}

Tensor dropout_elements(const Tensor& x, double probability, const RandomStream& random) {
  SEMIVOX_CHECK(probability >= 0 && probability < 1, "dropout with probability ", probability);
  Tensor out = Tensor::empty(x.shape(), x.dtype(), x.device());
  dispatch_float(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const DropoutQuads<T> quads{x.data<T>(), out.data<T>(), static_cast<float>(probability),
                                static_cast<compute_t<T>>(1.0 / (1.0 - probability)), random};
    const int64_t whole = x.elements() / 4;
    map(x.device(), "dropout", whole, quads);
    map(x.device(), "dropout", x.elements() - 4 * whole, DropoutRest<T>{quads, 4 * whole});
  });
  return out;
}

}  // namespace semivox::kernels
