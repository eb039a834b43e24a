// The pair of networks that MCF trains (Wang et al., CVPR 2023): a V-Net and a 3D-ResVNet, which see the same
// image and share nothing. `logits` are the logarithm of the mean of their predictions, which is what MCF
// predicts; `auxiliary` holds the V-Net's and the ResVNet's logits. 27,379,220 parameters with 2 classes.
#pragma once

#include "layers/network.hpp"
#include "layers/resvnet.hpp"
#include "layers/vnet_parts.hpp"

namespace semivox {

class MCF : public Network {
 public:
  /// Throws UsageError for another norm than batch norm.
  explicit MCF(const NetworkOptions& options);
  std::array<int64_t, 3> divisor() const override { return {16, 16, 16}; }

 protected:
  Variable run(const Variable& x, const Pass& pass) override;
  NetworkOutput run_all(const Variable& x, const Pass& pass) override;

 private:
  VNetEncoder vnet_encoder_;
  VNetDecoder vnet_decoder_;
  ConvLayer vnet_head_;
  ResNetEncoder resvnet_encoder_;
  VNetDecoder resvnet_decoder_;
  ConvLayer resvnet_head_;
};

}  // namespace semivox
