// AC-MT's loss by itself, for tests; the method is in methods/ac_mt.cpp.
#pragma once

#include "kernels/voxel_program.hpp"

namespace semivox {

/// The entropy of the student's prediction on unambiguous voxels, which the prototype strategy adds.
enum class EntropyTerm {
  none,
  own,    ///< every sample's entropy where that sample is unambiguous
  shared  ///< every sample's entropy under the mask of every sample, as the official code broadcasts them
};

struct AcMtLossOptions {
  StepNumber lambda = 0.1;      ///< weight of the unlabelled terms in this iteration
  bool count_per_class = true;  ///< divide by voxels times classes; false: by voxels
  EntropyTerm entropy = EntropyTerm::none;
  bool dice_background = true;  ///< average Dice over all classes, background included
};

/// logits (B,C,D,H,W) of the student; labels (L,1,D,H,W) u8 of its first L >= 1 samples; of the others, B >
/// L: teacher's logits (B-L,C,D,H,W), mask (B-L,1,D,H,W) u8 of the ambiguous voxels, or undefined when all
/// are. results: loss, CE, Dice, consistency and entropy without their weight, ambiguous voxels.
LossValue ac_mt_loss(const Variable& logits, const Tensor& labels, const Tensor& teacher, const Tensor& mask,
                     const AcMtLossOptions& options);

}  // namespace semivox
