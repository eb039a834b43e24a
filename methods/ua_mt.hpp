// UA-MT's loss by itself, for tests and for methods that build on it; the method is in methods/ua_mt.cu.
#pragma once

#include "kernels/voxel_program.hpp"

namespace semivox {

/// logits (B,C,D,H,W) of the student; labels (L,1,D,H,W) of its first L >= 1 samples. teacher: logits, mean:
/// mean probabilities, both (B-first,C,D,H,W), of samples first ... B-1. results: loss, CE, Dice, masked
/// consistency, voxels in the mask.
LossValue ua_mt_loss(const Variable& logits, const Tensor& labels, const Tensor& teacher, const Tensor& mean,
                     int64_t first, StepNumber lambda, StepNumber threshold, bool kl);

/// H(t) = (0.75 + 0.25 exp(-5 (1 - t/rampup)^2)) ln 2.
double ua_mt_threshold(int64_t iteration, int64_t rampup);

}  // namespace semivox
