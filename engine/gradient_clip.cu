#include "engine/gradient_clip.hpp"

#include <cmath>

#include "engine/launch.hpp"

namespace semivox {

namespace {

template <class T>
struct Square {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* gradients;
  SEMIVOX_HD void operator()(int64_t, int64_t i, double* sums) const {
    const double g = static_cast<double>(gradients[i]);
    sums[0] += g * g;
  }
};

struct Root {
  double* value;
  SEMIVOX_HD void operator()(int64_t) const { value[0] = sqrt(value[0]); }
};

template <class T>
struct Clip {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  T* gradients;
  const double* norm;
  double highest;
  SEMIVOX_HD void operator()(int64_t i) const {
    const double factor = highest / (norm[0] + 1e-6);
    if (factor < 1) gradients[i] *= static_cast<T>(factor);
  }
};

template <class T>
void clip(Tensor& gradients, double highest, double* norm) {
  const Device device = gradients.device();
  kernels::sum_samples<1>(device, "gradient_norm", 1, gradients.elements(), Square<T>{gradients.data<T>()},
                          norm);
  kernels::map(device, "gradient_norm.root", 1, Root{norm});
  kernels::map(device, "clip_gradients", gradients.elements(), Clip<T>{gradients.data<T>(), norm, highest});
}

}  // namespace

Tensor clip_gradients(ParameterSet& parameters, double highest) {
  Tensor& gradients = parameters.gradients();
  Tensor norm = Tensor::empty({}, DType::f64, gradients.device());
  if (gradients.dtype() == DType::f64) {
    clip<double>(gradients, highest, norm.data<double>());
  } else {
    clip<float>(gradients, highest, norm.data<double>());
  }
  return norm;
}

}  // namespace semivox
