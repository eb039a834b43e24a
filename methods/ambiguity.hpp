// Which voxels are ambiguous: what AC-MT's strategies are made of, beside kernels/confident_learning.hpp.
#pragma once

#include "engine/step_value.hpp"
#include "engine/tensor.hpp"

namespace semivox {

/// Mask (N,1,D,H,W) u8 of the voxels whose entropy -sum_c p_c ln(p_c + 1e-6) is at least `threshold`;
/// probabilities (N,C,D,H,W), f32 or f64.
Tensor entropy_mask(const Tensor& probabilities, StepNumber threshold);

/// Mask u8 of the voxels where two label maps u8 differ.
Tensor disagreement(const Tensor& a, const Tensor& b);

/// Stochastic passes of one network over the same images, one after the other: how much sigmoid(logit /
/// temperature) varies, and the mean feature map.
class PassStatistics {
 public:
  explicit PassStatistics(double temperature) : temperature_(temperature) {}

  /// logits (N,C,D,H,W), f32 or f64, and features (N,F,d,h,w) in any floating-point dtype.
  void add(const Tensor& logits, const Tensor& features);

  int64_t passes() const { return passes_; }

  /// Sum over the passes of the squared deviations from their mean, for every class, (N,C,D,H,W).
  const Tensor& squared_deviations() const { return squares_; }

  /// Mean features in the dtype of the logits.
  Tensor features() const;

 private:
  double temperature_;
  int64_t passes_ = 0;
  Tensor mean_, squares_;  // (N, C, D, H, W)
  Tensor feature_sum_;     // (N, F, d, h, w)
};

/// u8 (N,1,D,H,W): the class of highest probability among those that are certain, whose standard deviation
/// over the passes (unbiased) is below `limit`; background where none is.
Tensor rectified_labels(const Tensor& probabilities, const PassStatistics& passes, double limit);

}  // namespace semivox
