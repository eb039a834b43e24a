// URPC's 2D U-Net: `unet2d` with a head on every step of the decoder.
#pragma once

#include <deque>

#include "layers/unet2d.hpp"

namespace semivox {

/// `unet_urpc` of SSL4MIS: `auxiliary` are the logits of heads at 1/2, 1/4 and 1/8, brought to full size by
/// nearest neighbours. In training what these three heads see is perturbed, in the order above: by
/// multiplicative noise, by taking away the strongest positions, by dropout of elements; the decoder itself
/// goes on undisturbed. `network.dropout` 0 switches the perturbations off with the encoder's dropout. A
/// fifth head, on the deepest level, is declared and never used, as in the reference. 1,831,060 parameters
/// with 16 filters, 1 channel and 4 classes.
class UNet2DPyramid : public Network {
 public:
  explicit UNet2DPyramid(const NetworkOptions& options);
  std::array<int64_t, 3> divisor() const override { return {1, 16, 16}; }

 protected:
  Variable run(const Variable& x, const Pass& pass) override;
  NetworkOutput run_all(const Variable& x, const Pass& pass) override;

 private:
  /// What the head behind step 0, 1 or 2 of the decoder (1/8, 1/4, 1/2) sees of its feature map.
  Variable perturbed(const Variable& features, size_t step, const Pass& pass) const;

  UNet2DEncoder encoder_;
  UNet2DDecoder decoder_;
  ConvLayer out_conv_;
  std::deque<ConvLayer> heads_;  // 1/16 (unused), 1/8, 1/4, 1/2
};

}  // namespace semivox
