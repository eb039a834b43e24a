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

template <class T>
struct DropoutElements {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  using P = compute_t<T>;
  const T* x;
  T* out;
  int64_t elements;
  float probability;
  P factor;
  RandomStream random;
  SEMIVOX_HD void operator()(int64_t block) const {  // four elements from one block of random numbers
    const PhiloxBlock words = random.block(static_cast<uint64_t>(block));
    for (int k = 0; k < 4; ++k) {
      const int64_t i = 4 * block + k;
      if (i >= elements) return;
      const P value = static_cast<P>(x[i]);
      out[i] = unit_float(words.word[k]) < probability ? P(0) : factor * value;
    }
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
    map(x.device(), "dropout", (x.elements() + 3) / 4,
        DropoutElements<T>{x.data<T>(), out.data<T>(), x.elements(), static_cast<float>(probability),
                           static_cast<compute_t<T>>(1.0 / (1.0 - probability)), random});
  });
  return out;
}

}  // namespace semivox::kernels
