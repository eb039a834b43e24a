// Terms that several methods' losses are made of, written for one voxel and for the sums over voxels.
//
// See kernels/voxel_program.hpp: S is a plain scalar when sums are taken and a dual number when gradients
// are. `t` points to the sums that belong to the term; `offset` is where they lie among all sums of the
// program.
#pragma once

#include "kernels/voxel_program.hpp"

namespace semivox::terms {

constexpr double kDiceSmooth = 1e-5;

/// Cross-entropy and the sums of Dice with squared denominators: CE | per class: sum p*g, sum p^2, sum g.
struct CrossEntropyDice {
  SEMIVOX_HD static constexpr int sums(int classes) { return 1 + 3 * classes; }

  /// p = softmax(z), log_normalizer as `softmax` returns it.
  template <class S>
  SEMIVOX_HD static void voxel(const S* z, const S* p, const S& log_normalizer, int classes, int label,
                               S* t) {
    SEMIVOX_UNROLL
    for (int c = 0; c < classes; ++c) {  // comparisons, not indexing by label: arrays stay in registers
      if (c == label) {
        t[0] = log_normalizer - z[c];
        t[1 + 3 * c] = p[c];
        t[3 + 3 * c] = S(1);
      }
      t[2 + 3 * c] = p[c] * p[c];
    }
  }

  /// Mean cross-entropy over the first `samples` samples of `voxels` voxels.
  template <class S>
  SEMIVOX_HD static S cross_entropy(const SampleSums<S>& sums, int offset, int64_t samples, int64_t voxels) {
    return sums.total(offset, 0, samples) / S(static_cast<double>(samples * voxels));
  }

  /// 1 - Dice of one class, pooled over the first `samples` samples.
  template <class S>
  SEMIVOX_HD static S class_dice(const SampleSums<S>& sums, int offset, int c, int64_t samples) {
    const S intersection = sums.total(offset + 1 + 3 * c, 0, samples);
    const S p_square = sums.total(offset + 2 + 3 * c, 0, samples);
    const S g = sums.total(offset + 3 + 3 * c, 0, samples);
    return S(1) - (S(2) * intersection + S(kDiceSmooth)) / (p_square + g + S(kDiceSmooth));
  }

  /// Mean of 1 - Dice over the classes first ... classes-1: first = 1 leaves the background out (UA-MT), 0
  /// has all classes (SSL4MIS).
  template <class S>
  SEMIVOX_HD static S dice(const SampleSums<S>& sums, int offset, int first, int classes, int64_t samples) {
    S total = S(0);
    for (int c = first; c < classes; ++c) total = total + class_dice(sums, offset, c, samples);
    return total / S(static_cast<double>(classes - first));
  }
};

/// Throws InternalError unless `labels` (L, 1, D, H, W) u8 are those of the first L samples of logits
/// (N, C, D, H, W).
inline void check_labels(const Tensor& labels, const Shape& logits) {
  const int64_t labeled = labels.shape().n;
  SEMIVOX_CHECK(labels.shape() == logits.with_channels(1).with_samples(labeled) && labeled <= logits.n,
                labels.shape().str(), " labels for ", logits.str());
}

/// Another network's logits or probabilities, channels-last, in f32 or f64: what a program compares the
/// student with.
struct Frozen {
  const float* f32 = nullptr;
  const double* f64 = nullptr;

  Frozen() = default;
  explicit Frozen(const Tensor& tensor) {
    if (tensor.dtype() == DType::f64) {
      f64 = tensor.data<double>();
    } else {
      f32 = tensor.data<float>();
    }
  }

  /// Reads `count` values from element `begin` as constants.
  template <class T>
  SEMIVOX_HD void load(int64_t begin, int count, T* values) const {
    SEMIVOX_UNROLL
    for (int i = 0; i < count; ++i) {
      values[i] = f64 != nullptr ? static_cast<T>(f64[begin + i]) : static_cast<T>(f32[begin + i]);
    }
  }
};

/// The scalar type below a dual number.
template <class S>
using scalar_of = decltype(value_of(S()));

/// q = softmax of frozen logits at element `begin`; returns the log of the normaliser, z_out the logits
/// themselves.
template <class T>
SEMIVOX_HD inline T frozen_softmax(const Frozen& logits, int64_t begin, int classes, T* q, T* z_out) {
  logits.load(begin, classes, z_out);
  return softmax(z_out, classes, q);
}

/// sum_c (p_c - q_c)^2 with constants q.
template <class S, class T>
SEMIVOX_HD inline S squared_distance(const S* p, const T* q, int classes) {
  S total = S(0);
  SEMIVOX_UNROLL
  for (int c = 0; c < classes; ++c) total = total + square(p[c] - q[c]);
  return total;
}

}  // namespace semivox::terms
