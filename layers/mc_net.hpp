// MC-Net and MC-Net+ (Wu et al., MICCAI 2021 and Medical Image Analysis 2022): one encoder, two or three
// decoders that differ only in how they double their feature maps. `logits` come from the first decoder,
// which is the one that predicts, `auxiliary` holds the others'. In 3D the V-Net with the decoders
// transposed, linear (aligned corners), nearest: 12,347,716 and 15,246,566 parameters. In 2D the U-Net with
// linear, transposed, nearest: 2,577,624 and 3,210,924 parameters with 4 classes.
#pragma once

#include <deque>

#include "layers/network.hpp"
#include "layers/unet2d.hpp"
#include "layers/vnet_parts.hpp"

namespace semivox {

class MCNet : public Network {
 public:
  /// `decoders`: 2 (MC-Net) or 3 (MC-Net+).
  MCNet(const NetworkOptions& options, int decoders);
  std::array<int64_t, 3> divisor() const override { return {16, 16, 16}; }

 protected:
  Variable run(const Variable& x, const Pass& pass) override;
  NetworkOutput run_all(const Variable& x, const Pass& pass) override;

 private:
  VNetEncoder encoder_;
  std::deque<VNetDecoder> decoders_;
  std::deque<ConvLayer> heads_;
};

class MCNet2D : public Network {
 public:
  MCNet2D(const NetworkOptions& options, int decoders);
  std::array<int64_t, 3> divisor() const override { return {1, 16, 16}; }

 protected:
  Variable run(const Variable& x, const Pass& pass) override;
  NetworkOutput run_all(const Variable& x, const Pass& pass) override;

 private:
  UNet2DEncoder encoder_;
  std::deque<UNet2DDecoder> decoders_;
  std::deque<ConvLayer> heads_;
};

}  // namespace semivox
