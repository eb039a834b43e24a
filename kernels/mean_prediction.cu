#include "kernels/mean_prediction.hpp"

#include "engine/launch.hpp"
#include "kernels/classes.hpp"
#include "kernels/dual.hpp"

namespace semivox::kernels {

namespace {

/// log(e^x + e^y) without overflow.
template <class T>
SEMIVOX_HD inline T log_add(T x, T y) {
  const T high = x > y ? x : y, low = x > y ? y : x;
  return high + logarithm(T(1) + exponential(low - high));
}

template <class T>
struct MeanPrediction {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* a;  // (rows, C)
  const T* b;  // (rows, C)
  T* out;      // (rows, C)
  int classes;
  SEMIVOX_HD void operator()(int64_t row) const {
    const T* x = a + row * classes;
    const T* y = b + row * classes;
    T p[kMaxClasses], q[kMaxClasses];
    const T log_a = softmax(x, classes, p), log_b = softmax(y, classes, q);
    for (int c = 0; c < classes; ++c)
      out[row * classes + c] = log_add(x[c] - log_a, y[c] - log_b) - logarithm(T(2));
  }
};

// With p = softmax(a), q = softmax(b) and s = p / (p + q):  da = s dy - p sum_c s_c dy_c.
template <class T>
struct MeanPredictionBackward {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* a;   // (rows, C)
  const T* b;   // (rows, C)
  const T* dy;  // (rows, C)
  T* da;        // (rows, C)
  int classes;
  SEMIVOX_HD void operator()(int64_t row) const {
    const T* x = a + row * classes;
    const T* y = b + row * classes;
    T p[kMaxClasses], q[kMaxClasses];
    const T log_a = softmax(x, classes, p), log_b = softmax(y, classes, q);
    T total = T(0);
    for (int c = 0; c < classes; ++c) {
      const T ratio = exponential((y[c] - log_b) - (x[c] - log_a));  // q / p; may overflow to infinity
      q[c] = dy[row * classes + c] / (T(1) + ratio);                 // s dy
      total += q[c];
    }
    for (int c = 0; c < classes; ++c) da[row * classes + c] = q[c] - p[c] * total;
  }
};

template <class F>
void with_logits_type(const Tensor& a, const Tensor& b, const F& f) {
  SEMIVOX_CHECK(a.shape() == b.shape() && a.dtype() == b.dtype(), "logits ", a.shape().str(), " and ",
                b.shape().str());
  SEMIVOX_CHECK(a.dtype() == DType::f32 || a.dtype() == DType::f64, "dtype ", name_of(a.dtype()));
  SEMIVOX_CHECK(a.shape().c <= kMaxClasses, a.shape().c, " classes, at most ", kMaxClasses);
  if (a.dtype() == DType::f64) return f(double{});
  return f(float{});
}

}  // namespace

Tensor mean_prediction(const Tensor& a, const Tensor& b) {
  Tensor out = Tensor::empty(a.shape(), a.dtype(), a.device());
  with_logits_type(a, b, [&](auto zero) {
    using T = decltype(zero);
    map(a.device(), "mean_prediction", a.shape().rows(),
        MeanPrediction<T>{a.data<T>(), b.data<T>(), out.data<T>(), static_cast<int>(a.shape().c)});
  });
  return out;
}

Tensor mean_prediction_backward(const Tensor& a, const Tensor& b, const Tensor& dy) {
  SEMIVOX_CHECK(dy.shape() == a.shape(), "gradient ", dy.shape().str(), " for ", a.shape().str());
  Tensor da = Tensor::empty(a.shape(), a.dtype(), a.device());
  with_logits_type(a, b, [&](auto zero) {
    using T = decltype(zero);
    map(a.device(), "mean_prediction_backward", a.shape().rows(),
        MeanPredictionBackward<T>{a.data<T>(), b.data<T>(), dy.data<T>(), da.data<T>(),
                                  static_cast<int>(a.shape().c)});
  });
  return da;
}

}  // namespace semivox::kernels
