// The two other consistency terms of UPC's code, for tests and for methods that build on them; the published
// one is in methods/rectified_consistency.hpp, the method in methods/upc.cpp.
#pragma once

#include "kernels/voxel_program.hpp"

namespace semivox {

/// Cross-entropy with the teacher's hard labels where it is confident, max_c softmax(z'/T)_c >= threshold,
/// divided by all voxels. logits (N,C,D,H,W) of the student, teacher: logits z' of the same shape. Ties of
/// the hard label go to the lower class. results: loss, number of confident voxels.
LossValue confident_pseudo_labels(const Variable& logits, const Tensor& teacher, double threshold,
                                  double temperature);

/// Mean over all N * C * D * H * W elements of (z - z')^2, on logits. results: loss.
LossValue logit_distance(const Variable& logits, const Tensor& teacher);

}  // namespace semivox
