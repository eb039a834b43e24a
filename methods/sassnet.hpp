// SASSNet's losses by themselves, for tests; the method is in methods/sassnet.cpp.
#pragma once

#include "kernels/voxel_program.hpp"

namespace semivox {

/// Dice of the foreground logit b and error of the signed distance map t on the labelled samples, both
/// Variables (B,1,D,H,W). labels u8 and target (signed distances of the labels, f32), both (L,1,D,H,W), of
/// the first L >= 1 samples. results: Dice + distance_weight * error, Dice, error of the map, cross-entropy
/// (not in the loss).
LossValue sassnet_supervised_loss(const Variable& logit, const Variable& map, const Tensor& labels,
                                  const Tensor& target, double distance_weight);

/// Mean cross-entropy of the discriminator's logits (N,2,1,1,1) against class 1, "labelled", for the first
/// `labeled` samples and class 0 for the others. results: loss, part of the samples that are told rightly.
LossValue discriminator_loss(const Variable& logits, int64_t labeled);

}  // namespace semivox
