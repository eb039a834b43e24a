// DyCON's voxel-wise losses and schedules by themselves, for tests; FeCL is in kernels/fecl.hpp, the method
// in methods/dycon.cu.
#pragma once

#include "kernels/voxel_program.hpp"
#include "methods/schedule.hpp"

namespace semivox {

/// Weights of the terms, and beta of UnCL.
struct DyconWeights {
  double supervised = 1.0;
  StepNumber consistency = 0.1;
  double unsupervised = 0.5;  ///< of UnCL (and FeCL)
  StepNumber beta = 5.0;
};

/// logits of the student and of the teacher, both (B,C,D,H,W); labels (L,1,D,H,W) u8 of the first L samples,
/// 1 <= L < B. results: weighted sum, CE, Dice, consistency, UnCL.
LossValue dycon_loss(const Variable& logits, const Tensor& labels, const Tensor& teacher,
                     const DyconWeights& weights);

/// beta of epoch e of E: highest (lowest / highest)^(e/E).
double dycon_beta(int64_t epoch, int64_t epochs, double highest, double lowest);

/// theta of epoch e: lowest + (highest - lowest) exp(-5 (1 - min(e, rampup)/rampup)^2).
double dycon_threshold(int64_t epoch, int64_t rampup, double lowest, double highest);

}  // namespace semivox
