// Prototypes of classes and the distance of embedded voxels to them: SS-Net's class separation (Wu et al.,
// MICCAI 2022), after Alonso et al., "Semi-supervised semantic segmentation with pixel-level contrastive
// learning from a class-wise memory bank", ICCV 2021.
#pragma once

#include <vector>

#include "engine/variable.hpp"

namespace semivox {

/// Up to `capacity` vectors for every class.
class PrototypeMemory {
 public:
  /// dtype f32 or f64.
  PrototypeMemory(int64_t classes, int64_t channels, int64_t capacity, DType dtype, Device device);

  int64_t capacity() const { return vectors_.shape().w; }
  int64_t count(int64_t c) const { return counts_.data<int32_t>()[c]; }

  /// The vectors of class c as rows (1, channels, 1, 1, count).
  Tensor of_class(int64_t c) const;

  /// Replaces those of class c by `rows` (1, channels, 1, 1, M), M <= capacity, of any floating-point dtype.
  void replace(int64_t c, const Tensor& rows);

  Tensor& vectors() { return vectors_; }  ///< (classes, channels, 1, 1, capacity); unused ones are 0
  Tensor& counts() { return counts_; }    ///< (classes, 1, 1, 1, 1) i32, on the CPU

 private:
  Tensor vectors_, counts_;
};

/// Numbers of the `count` lowest of `scores` in ascending order, with `highest` of the highest in descending
/// order; equal scores in the order in which they come.
std::vector<int32_t> ranked(const std::vector<double>& scores, int64_t count, bool highest);

/// sum_i w_i (1 - cos_i) / sum_i w_i with cos_i the mean cosine of row F_i and the prototypes, and w_i =
/// sigmoid(score_i): a scalar (f64). rows (1,C,1,1,M) and scores (1,1,1,1,M) of one dtype, both with
/// gradients; prototypes (1,C,1,1,K) f32 (f64 for f64 rows), constants. The mean over rows and prototypes of
/// a_i (1 - f_i . m_j), a_i = M w_i / sum(w), in a form that needs the mean of the normalised prototypes
/// alone. Keeps rows and scores.
Variable prototype_distance(const Variable& rows, const Variable& scores, const Tensor& prototypes);

}  // namespace semivox
