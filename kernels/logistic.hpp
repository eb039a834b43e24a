// The logistic function and its integral for plain scalars and dual numbers, finite for every finite
// argument.
#pragma once

#include "kernels/dual.hpp"

namespace semivox {

/// 1 / (1 + exp(-x)). An argument so small that exp(-x) overflows gives 0 with derivative 0.
SEMIVOX_HD inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }
SEMIVOX_HD inline double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }
template <class T, int W>
SEMIVOX_HD inline Dual<T, W> sigmoid(const Dual<T, W>& x) {
  const T s = sigmoid(x.v);
  return chain(x, s, s * (T(1) - s));
}

/// log(1 + exp(x)); softplus(b) - y b is the binary cross-entropy of the logit b for the label y.
SEMIVOX_HD inline float softplus(float x) { return (x > 0 ? x : 0.0f) + log1pf(exponential(x > 0 ? -x : x)); }
SEMIVOX_HD inline double softplus(double x) { return (x > 0 ? x : 0.0) + log1p(exp(x > 0 ? -x : x)); }
template <class T, int W>
SEMIVOX_HD inline Dual<T, W> softplus(const Dual<T, W>& x) {
  return chain(x, softplus(x.v), sigmoid(x.v));
}

}  // namespace semivox
