// Terms of the labelled samples that DTC and SASSNet share: Dice and binary cross-entropy of the foreground
// logit b, squared error of the signed distance map t. See methods/terms.hpp for how terms are written.
#pragma once

#include "kernels/logistic.hpp"
#include "methods/terms.hpp"

namespace semivox::terms {

/// Sums: cross-entropy | p y | p^2 | y | (t - s)^2, with p = sigmoid(b).
struct ForegroundAndDistance {
  static constexpr int kSums = 5;

  const uint8_t* labels;  // (L, V), foreground != 0
  const float* target;    // (L, V), signed distance s
  int64_t labeled, voxels;

  /// Fills t[0 ... 4] for a voxel of a labelled sample with p = sigmoid(b) and the map's value `distance`.
  template <class S>
  SEMIVOX_HD void voxel(const S& b, const S& p, const S& distance, int64_t sample, int64_t v, S* t) const {
    const int64_t i = sample * voxels + v;
    t[0] = softplus(b);
    if (labels[i] != 0) {
      t[0] = t[0] - b;
      t[1] = p;
      t[3] = S(1);
    }
    t[2] = square(p);
    t[4] = square(distance - S(target[i]));
  }

  template <class S>
  SEMIVOX_HD S cross_entropy(const SampleSums<S>& sums) const {
    return mean(sums, 0);
  }
  /// 1 - Dice of the foreground with squared denominators, pooled over the labelled samples.
  template <class S>
  SEMIVOX_HD S dice(const SampleSums<S>& sums) const {
    const S intersection = sums.total(1, 0, labeled);
    const S squares = sums.total(2, 0, labeled) + sums.total(3, 0, labeled);
    return S(1) - (S(2) * intersection + S(kDiceSmooth)) / (squares + S(kDiceSmooth));
  }
  template <class S>
  SEMIVOX_HD S distance(const SampleSums<S>& sums) const {
    return mean(sums, 4);
  }

 private:
  template <class S>
  SEMIVOX_HD S mean(const SampleSums<S>& sums, int k) const {
    return sums.total(k, 0, labeled) / S(static_cast<double>(labeled * voxels));
  }
};

}  // namespace semivox::terms
