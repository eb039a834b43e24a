// MC-Net's mutual consistency by itself, for tests and for methods that build on it; the methods are in
// methods/mc_net.cu.
#pragma once

#include "kernels/voxel_program.hpp"

namespace semivox {

SEMIVOX_HD inline float power(float x, float y) { return powf(x, y); }
SEMIVOX_HD inline double power(double x, double y) { return pow(x, y); }

/// Temperature sharpening of one probability, s(p) = p^k / (p^k + (1-p)^k), and its derivative
/// k (p(1-p))^(k-1) / (p^k + (1-p)^k)^2, both by the ratio of the smaller to the larger of p and 1-p, whose
/// powers can underflow but never divide 0 by 0.
template <class T>
SEMIVOX_HD inline T sharpened(T p, T k, T& derivative) {
  const T rest = p < T(1) ? T(1) - p : T(0);
  const bool low = p < rest;
  const T larger = low ? rest : p, ratio = (low ? p : rest) / larger;
  const T almost = power(ratio, k - T(1)), odds = almost * ratio;
  derivative = k * almost / ((T(1) + odds) * (T(1) + odds) * larger * larger);
  return low ? odds / (T(1) + odds) : T(1) / (T(1) + odds);
}

SEMIVOX_HD inline float sharpen(float p, double k) {
  float derivative;
  return sharpened(p, static_cast<float>(k), derivative);
}
SEMIVOX_HD inline double sharpen(double p, double k) {
  double derivative;
  return sharpened(p, k, derivative);
}
template <class T, int W>
SEMIVOX_HD inline Dual<T, W> sharpen(const Dual<T, W>& p, double k) {
  T derivative;
  const T value = sharpened(p.v, static_cast<T>(k), derivative);
  return chain(p, value, derivative);
}

/// Sum over the ordered pairs i != j of decoders of the mean over samples, classes and voxels of
/// (p_i - s(p_j))^2. `logits`: those of 2 or 3 decoders, (N,C,D,H,W) each. s sharpens every class probability
/// by itself with temperature T = 1/k; with `detached` it passes no gradient to decoder j. results: the loss.
LossValue mutual_consistency(const std::vector<Variable>& logits, double temperature, bool detached);

}  // namespace semivox
