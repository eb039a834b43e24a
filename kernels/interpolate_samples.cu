#include "kernels/interpolate_samples.hpp"

#include "engine/launch.hpp"

namespace semivox::kernels {

namespace {

template <class T>
struct Interpolate {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* a;  // (elements) of one sample
  const T* b;  // likewise
  T* out;      // likewise
  StepNumber gamma;
  SEMIVOX_HD void operator()(int64_t i) const {
    const T share = static_cast<T>(gamma.get());
    out[i] = (T(1) - share) * a[i] + share * b[i];
  }
};

}  // namespace

Tensor interpolate_samples(const Tensor& a, const Tensor& b, const std::vector<StepNumber>& gamma) {
  SEMIVOX_CHECK(a.shape() == b.shape() && a.dtype() == b.dtype(), a.shape().str(), " with ", b.shape().str());
  SEMIVOX_CHECK(static_cast<int64_t>(gamma.size()) == a.shape().n, gamma.size(), " weights for ",
                a.shape().str());
  SEMIVOX_CHECK(a.dtype() == DType::f32 || a.dtype() == DType::f64, "dtype ", name_of(a.dtype()));
  Tensor out = Tensor::empty(a.shape(), a.dtype(), a.device());
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    for (int64_t n = 0; n < a.shape().n; ++n) {
      const Tensor sample = out.samples(n, 1);
      map(a.device(), "interpolate_samples", sample.elements(),
          Interpolate<T>{a.samples(n, 1).data<T>(), b.samples(n, 1).data<T>(), sample.data<T>(),
                         gamma[static_cast<size_t>(n)]});
    }
  };
  if (a.dtype() == DType::f64) {
    run(double{});
  } else {
    run(float{});
  }
  return out;
}

}  // namespace semivox::kernels
