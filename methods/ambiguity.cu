#include "methods/ambiguity.hpp"

#include "engine/arithmetic.hpp"
#include "engine/launch.hpp"
#include "kernels/dual.hpp"
#include "kernels/uncertainty.hpp"

namespace semivox {

namespace {

template <class T>
struct AtLeast {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* values;  // (rows)
  uint8_t* mask;    // (rows)
  StepNumber threshold;
  SEMIVOX_HD void operator()(int64_t row) const {
    mask[row] = values[row] >= static_cast<T>(threshold.get());
  }
};

struct Differ {
  const uint8_t* a;
  const uint8_t* b;
  uint8_t* mask;
  SEMIVOX_HD void operator()(int64_t i) const { mask[i] = a[i] != b[i]; }
};

/// Welford's update of mean and squared deviations with the n-th number.
template <class T>
struct AddPass {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* logits;
  T* mean;
  T* squares;
  T inverse_temperature, n;
  SEMIVOX_HD void operator()(int64_t i) const {
    const T x = T(1) / (T(1) + exponential(-logits[i] * inverse_temperature));
    const T before = x - mean[i];
    mean[i] += before / n;
    squares[i] += before * (x - mean[i]);
  }
};

template <class T>
struct RectifiedLabels {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* p;        // (rows, C)
  const T* squares;  // (rows, C)
  uint8_t* labels;   // (rows)
  int classes;
  T limit;  // of the squared deviations
  SEMIVOX_HD void operator()(int64_t row) const {
    int best = 0;
    T highest = T(0);
    for (int c = 0; c < classes; ++c) {
      const int64_t i = row * classes + c;
      if (!(squares[i] < limit) || !(p[i] > highest)) continue;
      best = c;
      highest = p[i];
    }
    labels[row] = static_cast<uint8_t>(best);
  }
};

template <class F>
void with_type(const Tensor& tensor, const F& f) {
  SEMIVOX_CHECK(tensor.dtype() == DType::f32 || tensor.dtype() == DType::f64, "dtype ",
                name_of(tensor.dtype()));
  if (tensor.dtype() == DType::f64) return f(double{});
  return f(float{});
}

}  // namespace

Tensor entropy_mask(const Tensor& probabilities, StepNumber threshold) {
  const Tensor entropy = kernels::entropy(probabilities);
  Tensor mask = Tensor::empty(entropy.shape(), DType::u8, entropy.device());
  with_type(entropy, [&](auto zero) {
    using T = decltype(zero);
    kernels::map(entropy.device(), "entropy_mask", entropy.elements(),
                 AtLeast<T>{entropy.data<T>(), mask.data<uint8_t>(), threshold});
  });
  return mask;
}

Tensor disagreement(const Tensor& a, const Tensor& b) {
  SEMIVOX_CHECK(a.shape() == b.shape(), a.shape().str(), " and ", b.shape().str());
  Tensor mask = Tensor::empty(a.shape(), DType::u8, a.device());
  kernels::map(a.device(), "disagreement", a.elements(),
               Differ{a.data<uint8_t>(), b.data<uint8_t>(), mask.data<uint8_t>()});
  return mask;
}

void PassStatistics::add(const Tensor& logits, const Tensor& features) {
  const Tensor widened = features.dtype() == logits.dtype() ? features : cast(features, logits.dtype());
  if (passes_ == 0) {
    mean_ = Tensor::zeros(logits.shape(), logits.dtype(), logits.device());
    squares_ = Tensor::zeros(logits.shape(), logits.dtype(), logits.device());
    feature_sum_ = Tensor::zeros(features.shape(), logits.dtype(), logits.device());
  }
  ++passes_;
  with_type(logits, [&](auto zero) {
    using T = decltype(zero);
    kernels::map(logits.device(), "pass_statistics", logits.elements(),
                 AddPass<T>{logits.data<T>(), mean_.data<T>(), squares_.data<T>(),
                            static_cast<T>(1 / temperature_), static_cast<T>(passes_)});
  });
  add_in_place(feature_sum_, widened);
}

Tensor PassStatistics::features() const {
  const Tensor zero = Tensor::zeros(feature_sum_.shape(), feature_sum_.dtype(), feature_sum_.device());
  return add_scaled(zero, feature_sum_, 1.0 / static_cast<double>(passes_));
}

Tensor rectified_labels(const Tensor& probabilities, const PassStatistics& passes, double limit) {
  const Shape shape = probabilities.shape();
  SEMIVOX_CHECK(passes.passes() >= 2 && passes.squared_deviations().shape() == shape, passes.passes(),
                " passes for probabilities ", shape.str());
  Tensor labels = Tensor::empty(shape.with_channels(1), DType::u8, probabilities.device());
  const double squared_limit = limit * limit * static_cast<double>(passes.passes() - 1);
  with_type(probabilities, [&](auto zero) {
    using T = decltype(zero);
    kernels::map(
        probabilities.device(), "rectified_labels", shape.rows(),
        RectifiedLabels<T>{probabilities.data<T>(), passes.squared_deviations().data<T>(),
                           labels.data<uint8_t>(), static_cast<int>(shape.c), static_cast<T>(squared_limit)});
  });
  return labels;
}

}  // namespace semivox
