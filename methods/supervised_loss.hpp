// 1/2 (CE + Dice) on labelled logits: the loss of the supervised baseline, also what benchmarks train with.
#pragma once

#include "kernels/voxel_program.hpp"

namespace semivox {

/// logits (N,C,D,H,W), labels (N,1,D,H,W) u8. Dice is pooled over the batch with squared denominators, over
/// the foreground classes, or over all of them with `dice_background`. results: loss, CE, Dice.
LossValue supervised_loss(const Variable& logits, const Tensor& labels, bool dice_background);

}  // namespace semivox
