// MCF's loss by itself, for tests; the method is in methods/mcf.cu.
#pragma once

#include "kernels/voxel_program.hpp"

namespace semivox {

/// Which network's prediction the other one follows on unlabelled samples.
enum class McfTeacher {
  compete,  ///< the one with the lower labelled Dice loss in this iteration; the ResVNet when they are equal
  vnet,
  resvnet
};

struct McfLossOptions {
  double rectification = 0.5;    ///< weight of the squared error where the networks disagree
  StepNumber consistency = 0.1;  ///< weight w of the unlabelled term in this iteration
  double temperature = 0.1;      ///< T > 0 that the teacher's prediction is sharpened with
  McfTeacher teacher = McfTeacher::compete;
};

/// Logits (B,C,D,H,W) of both networks, C from 2 to 8; labels (L,1,D,H,W) u8 of the first L >= 1 samples,
/// B > L. results: loss, V-Net's loss, ResVNet's loss; then CE, Dice, rectification of the V-Net; the same of
/// the ResVNet; consistency of the student without its weight; which network is the teacher (0 V-Net, 1
/// ResVNet); labelled voxels on which the networks disagree.
LossValue mcf_loss(const Variable& vnet, const Variable& resvnet, const Tensor& labels,
                   const McfLossOptions& options);

}  // namespace semivox
