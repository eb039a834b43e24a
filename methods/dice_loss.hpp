// Dice losses in the forms that MC-Net's and SS-Net's code have in 3D and in 2D.
#pragma once

#include "kernels/voxel_program.hpp"

namespace semivox {

/// Mean over classes of 1 - (overlap * sum p y + numerator_smooth) / (sum p + sum y + smooth), all sums over
/// samples and voxels together; p is the class probability, y the indicator of the class.
struct DiceForm {
  int first_class;  ///< 1: the foreground alone; 0: the background is a class like the others
  bool squared;     ///< p^2 instead of p in the denominator
  double overlap;
  double numerator_smooth, smooth;
};

/// MC-Net and SS-Net in 3D: foreground, no squares.
constexpr DiceForm kForegroundDice{1, false, 2, 1e-8, 1e-8};
/// SS-Net in 2D: all classes, squares.
constexpr DiceForm kSquaredDice{0, true, 2, 1e-10, 1e-10};
/// MC-Net in 2D: the same without the factor 2, so that a perfect prediction scores 1/2.
constexpr DiceForm kHalvedDice{0, true, 1, 0, 1e-10};

/// logits (N,C,D,H,W), labels (N,1,D,H,W) u8. results: the loss.
LossValue dice_loss(const Variable& logits, const Tensor& labels, const DiceForm& form);

}  // namespace semivox
