// Mean Teacher's loss by itself, for tests and for methods that build on it; the method is in
// methods/mean_teacher.cu.
#pragma once

#include "kernels/voxel_program.hpp"

namespace semivox {

/// logits (B,C,D,H,W) of the student; labels (L,1,D,H,W) u8 of its first L >= 1 samples; teacher: logits
/// (B-L,C,D,H,W) of the others, B > L. Dice is averaged over all classes with `dice_background`, else over
/// the foreground. results: loss, CE, Dice, consistency without its weight `lambda`.
LossValue mean_teacher_loss(const Variable& logits, const Tensor& labels, const Tensor& teacher,
                            StepNumber lambda, bool dice_background);

}  // namespace semivox
