// DTC's loss by itself, for tests; the method is in methods/dtc.cu.
#pragma once

#include "kernels/voxel_program.hpp"

namespace semivox {

struct DtcOptions {
  double distance_weight = 0.3;  ///< beta, of the signed distance map's error
  double steepness = 1500;       ///< k of u = sigmoid(-k t)
};

/// logit: foreground logit b, map: signed distance map t, both (B,1,D,H,W). labels u8 and target (signed
/// distances of the labels, f32), both (L,1,D,H,W), of the first L >= 1 samples. lambda: weight of the
/// consistency of b and t. results: loss, Dice, error of the map, consistency, cross-entropy (not in the
/// loss). Luo et al., AAAI 2021, as in the official code.
LossValue dtc_loss(const Variable& logit, const Variable& map, const Tensor& labels, const Tensor& target,
                   StepNumber lambda, const DtcOptions& options);

}  // namespace semivox
