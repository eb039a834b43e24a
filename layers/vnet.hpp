// V-Net as the semi-supervised literature uses it (Yu et al., "Uncertainty-aware self-ensembling model for
// semi-supervised 3D left atrium segmentation", MICCAI 2019, after Milletari et al., 3DV 2016): five levels
// of 3^3 convolutions, 2^3 stride-2 convolutions down, 2^3 transposed convolutions up, skips added after the
// activation, channel dropout behind the deepest stage and before the output layer. 9,448,866 parameters with
// 16 filters and batch norm; 40.11 GMAC for a 112x112x80 patch. `features` is the decoder's map at half
// resolution, 2 * filters channels.
#pragma once

#include "layers/vnet_parts.hpp"

namespace semivox {

class VNet : public Network {
 public:
  explicit VNet(const NetworkOptions& options);
  std::array<int64_t, 3> divisor() const override { return {16, 16, 16}; }

 protected:
  Variable run(const Variable& x, const Pass& pass) override;
  NetworkOutput run_all(const Variable& x, const Pass& pass) override;

 private:
  VNetEncoder encoder_;
  VNetDecoder decoder_;
  ConvLayer out_conv_;
};

}  // namespace semivox
