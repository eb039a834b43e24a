#include "kernels/prototypes.hpp"

#include "kernels/channels.hpp"
#include "kernels/resize.hpp"

namespace semivox::kernels {

namespace {

constexpr double kSmooth = 1e-5;

template <class T>
struct ClassWeights {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* p;             // (rows, C)
  const uint8_t* labels;  // (rows)
  T* out;                 // (rows, C)
  int64_t classes;
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t c) const {
    const int64_t i = row * classes + c;
    out[i] = labels[row] == c ? p[i] : T(0);
  }
};

/// One class: weight times feature.
template <class T>
struct WeightedFeatures {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* weights;   // (rows, C)
  const T* features;  // (rows, F)
  int64_t classes, channels, c;
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t channel, double (&terms)[1]) const {
    terms[0] = static_cast<double>(weights[row * classes + c]) *
               static_cast<double>(features[row * channels + channel]);
  }
};

template <class T>
struct WeightTotals {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* weights;  // (rows, C)
  int64_t classes;
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t c, double (&terms)[1]) const {
    terms[0] = static_cast<double>(weights[row * classes + c]);
  }
};

/// Prototypes of one class.
template <class T>
struct MeanFeatures {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const double* sums;    // (N, F)
  const double* totals;  // (N, C)
  T* out;                // (N, C, F)
  int64_t classes, channels, c;
  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t sample = i / channels, channel = i % channels;
    out[(sample * classes + c) * channels + channel] =
        static_cast<T>(sums[i] / (totals[sample * classes + c] + kSmooth));
  }
};

/// |F - q_c|^2 - |F|^2 = |q_c|^2 - 2 q_c F: what of the distance depends on the class.
template <class T>
struct RelativeDistance {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* features;    // (rows, F)
  const T* prototypes;  // (N, C, F)
  T* out;               // (rows, C)
  int64_t classes, channels;
  SEMIVOX_HD void operator()(int64_t sample, int64_t row, int64_t c) const {
    const T* f = features + row * channels;
    const T* q = prototypes + (sample * classes + c) * channels;
    T total = T(0);
    for (int64_t k = 0; k < channels; ++k) total += q[k] * (q[k] - 2 * f[k]);
    out[row * classes + c] = total;
  }
};

template <class T>
struct Nearest {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* distances;  // (rows, C)
  uint8_t* out;        // (rows)
  int64_t classes;
  SEMIVOX_HD void operator()(int64_t row) const {
    const T* d = distances + row * classes;
    int64_t best = 0;
    for (int64_t c = 1; c < classes; ++c) best = d[c] < d[best] ? c : best;
    out[row] = static_cast<uint8_t>(best);
  }
};

template <class F>
void with_type(const Tensor& features, const Tensor& other, const F& f) {
  SEMIVOX_CHECK(
      features.dtype() == other.dtype() && (features.dtype() == DType::f32 || features.dtype() == DType::f64),
      "features ", name_of(features.dtype()), " with ", name_of(other.dtype()));
  if (features.dtype() == DType::f64) return f(double{});
  return f(float{});
}

std::array<int64_t, 3> size_of_grid(const Tensor& x) { return {x.shape().d, x.shape().h, x.shape().w}; }

}  // namespace

Tensor class_prototypes(const Tensor& probabilities, const Tensor& labels, const Tensor& features) {
  const Shape fine = probabilities.shape(), coarse = features.shape();
  const Device device = features.device();
  SEMIVOX_CHECK(labels.shape() == fine.with_channels(1) && coarse.n == fine.n, labels.shape().str(),
                " labels, features ", coarse.str(), " for ", fine.str());
  Tensor prototypes = Tensor::empty({coarse.n, coarse.c, 1, 1, fine.c}, features.dtype(), device);
  const Tensor sums = Tensor::empty({1, coarse.n * coarse.c, 1, 1, 1}, DType::f64, device);
  const Tensor totals = Tensor::empty({1, coarse.n * fine.c, 1, 1, 1}, DType::f64, device);
  with_type(features, probabilities, [&](auto zero) {
    using T = decltype(zero);
    const Tensor full = Tensor::empty(fine, features.dtype(), device, MemoryTag::workspace);
    map_channels(device, "prototypes.weights", fine.n, fine.voxels(), fine.c,
                 ClassWeights<T>{probabilities.data<T>(), labels.data<uint8_t>(), full.data<T>(), fine.c});
    // The transposed interpolation carries the weights to the features.
    const Tensor weights = resize_backward(full, size_of_grid(features), Interpolation::linear);
    sum_channels<1>(device, "prototypes.totals", fine.n, coarse.voxels(), fine.c,
                    WeightTotals<T>{weights.data<T>(), fine.c}, totals.data<double>());
    for (int64_t c = 0; c < fine.c; ++c) {
      sum_channels<1>(device, "prototypes.sums", coarse.n, coarse.voxels(), coarse.c,
                      WeightedFeatures<T>{weights.data<T>(), features.data<T>(), fine.c, coarse.c, c},
                      sums.data<double>());
      map(device, "prototypes.divide", coarse.n * coarse.c,
          MeanFeatures<T>{sums.data<double>(), totals.data<double>(), prototypes.data<T>(), fine.c, coarse.c,
                          c});
    }
  });
  return prototypes;
}

Tensor nearest_prototypes(const Tensor& features, const Tensor& prototypes,
                          const std::array<int64_t, 3>& size) {
  const Shape coarse = features.shape();
  const Device device = features.device();
  const int64_t classes = prototypes.shape().w;
  SEMIVOX_CHECK(prototypes.shape() == (Shape{coarse.n, coarse.c, 1, 1, classes}), "prototypes ",
                prototypes.shape().str(), " for ", coarse.str());
  Tensor labels = Tensor::empty({coarse.n, 1, size[0], size[1], size[2]}, DType::u8, device);
  with_type(features, prototypes, [&](auto zero) {
    using T = decltype(zero);
    const Tensor distances = Tensor::empty(coarse.with_channels(classes), features.dtype(), device);
    map_channels(device, "prototypes.distances", coarse.n, coarse.voxels(), classes,
                 RelativeDistance<T>{features.data<T>(), prototypes.data<T>(), distances.data<T>(), classes,
                                     coarse.c});
    const Tensor full = resize(distances, size, Interpolation::linear);
    map(device, "prototypes.nearest", labels.shape().rows(),
        Nearest<T>{full.data<T>(), labels.data<uint8_t>(), classes});
  });
  return labels;
}

}  // namespace semivox::kernels
