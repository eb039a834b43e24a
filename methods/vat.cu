#include "methods/vat.hpp"

#include "engine/arithmetic.hpp"
#include "methods/terms.hpp"

namespace semivox {

namespace {

// Per class: sum p q, sum p + sum q (or of squares).
struct PredictionDistance {
  terms::Frozen clean;  // (N, V, C) logits
  int64_t voxels;
  bool per_class;

  static constexpr int kResults = 1;
  SEMIVOX_HD static constexpr int sums(int channels) { return 2 * channels; }

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    using T = terms::scalar_of<S>;
    S p[voxel::kMaxChannels];
    T q[voxel::kMaxChannels] = {}, z_clean[voxel::kMaxChannels] = {};
    softmax(z, channels, p);
    terms::frozen_softmax(clean, (sample * voxels + v) * channels, channels, q, z_clean);
    for (int c = 0; c < channels; ++c) {
      t[2 * c] = p[c] * q[c];
      t[2 * c + 1] = per_class ? p[c] * p[c] + q[c] * q[c] : p[c] + q[c];
    }
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int channels, S* results) const {
    if (per_class) {
      const S smooth = S(1e-10);
      S total = S(0);
      for (int c = 0; c < channels; ++c)
        total = total + (S(2) * sums.total(2 * c) + smooth) / (sums.total(2 * c + 1) + smooth);
      results[0] = S(1) - total / S(static_cast<double>(channels));
      return;
    }
    const S smooth = S(1e-8);
    S overlap = S(0), size = S(0);
    for (int c = 0; c < channels; ++c) {
      overlap = overlap + sums.total(2 * c);
      size = size + sums.total(2 * c + 1);
    }
    results[0] = S(1) - (S(2) * overlap + smooth) / (size + smooth);
  }
};

template <class T>
struct SquareSum {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* x;  // (N, elements)
  int64_t elements;
  SEMIVOX_HD void operator()(int64_t sample, int64_t i, double* sums) const {
    const double value = x[sample * elements + i];
    sums[0] += value * value;
  }
};

template <class T>
struct Normalize {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* x;             // (N, elements)
  const double* squares;  // (N)
  T* out;                 // (N, elements)
  int64_t elements;
  double factor;
  SEMIVOX_HD void operator()(int64_t i) const {
    const double length = sqrt(factor * factor * squares[i / elements]);
    out[i] = static_cast<T>(factor * static_cast<double>(x[i]) / (length + 1e-8));
  }
};

template <class T>
struct DrawUniform {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  T* out;
  RandomStream random;
  SEMIVOX_HD void operator()(int64_t i) const {
    out[i] = static_cast<T>(random.uniform(static_cast<uint64_t>(i))) - T(0.5);
  }
};

template <class T>
struct DrawWave {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  T* out;
  SEMIVOX_HD void operator()(int64_t i) const { out[i] = static_cast<T>(sin(static_cast<double>(i + 1))); }
};

/// Calls `f(T{})` with the type of logits or images.
template <class F>
void with_type(DType dtype, const F& f) {
  voxel::check_logit_type(dtype);
  if (dtype == DType::f64) return f(double{});
  return f(float{});
}

}  // namespace

LossValue prediction_distance(const Variable& logits, const Tensor& clean, bool per_class) {
  SEMIVOX_CHECK(logits.shape() == clean.shape(), logits.shape().str(), " against ", clean.shape().str());
  return evaluate("prediction_distance",
                  PredictionDistance{terms::Frozen(clean), logits.shape().voxels(), per_class}, {logits},
                  {clean});
}

Tensor unit_direction(const Tensor& x, double factor) {
  const int64_t samples = x.shape().n, elements = x.elements() / samples;
  const Tensor squares = Tensor::empty({1, samples, 1, 1, 1}, DType::f64, x.device(), MemoryTag::workspace);
  Tensor out = Tensor::empty(x.shape(), x.dtype(), x.device());
  with_type(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    kernels::sum_samples<1>(x.device(), "vat.squares", samples, elements, SquareSum<T>{x.data<T>(), elements},
                            squares.data<double>());
    kernels::map(x.device(), "vat.normalize", x.elements(),
                 Normalize<T>{x.data<T>(), squares.data<double>(), out.data<T>(), elements, factor});
  });
  return out;
}

Tensor random_direction(const Shape& shape, DType dtype, Device device, const RandomStream& random) {
  Tensor direction = Tensor::empty(shape, dtype, device);
  with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    kernels::map(device, "vat.draw", shape.elements(), DrawUniform<T>{direction.data<T>(), random});
  });
  return unit_direction(direction);
}

Tensor wave_direction(const Shape& shape, DType dtype, Device device) {
  Tensor direction = Tensor::empty(shape, dtype, device);
  with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    kernels::map(device, "vat.wave", shape.elements(), DrawWave<T>{direction.data<T>()});
  });
  return unit_direction(direction);
}

Variable perturbed(const Network& network, const Tensor& image, const Tensor& direction, double length,
                   bool needs_gradient) {
  return Variable(cast(add_scaled(image, direction, length), network.precision()), needs_gradient);
}

Tensor adversarial_direction(Network& network, const Tensor& image, const Tensor& clean, Tensor start,
                             const VatOptions& options, const Pass& pass) {
  Tensor direction = std::move(start);
  for (int64_t k = 0; k < options.iterations; ++k) {
    const Variable x = perturbed(network, image, direction, options.xi, true);
    prediction_distance(network.forward(x, pass), clean, options.per_class).loss.backward();
    direction = unit_direction(cast(x.gradient(), image.dtype()), options.xi);
  }
  return direction;
}

}  // namespace semivox
