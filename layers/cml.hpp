// CML (Wu et al., "Cross-view mutual learning for semi-supervised medical image segmentation", ACM Multimedia
// 2024): two subnetworks that differ in how they double their feature maps see the same image. `logits` are
// the mean of both, which predicts; `auxiliary` holds the two subnetworks' own, `features` their deepest
// feature maps behind the dropout, side by side: (N, 2 * 16 filters, d, h, w), subnetwork 1 first. In 3D two
// V-Nets, transposed and linear (aligned corners): 19,724,612 parameters. In 2D two U-Nets, linear and
// transposed: 3,758,088 parameters with 4 classes.
#pragma once

#include <deque>

#include "layers/network.hpp"
#include "layers/unet2d.hpp"
#include "layers/vnet_parts.hpp"

namespace semivox {

/// Two views of one image.
class TwoViewNetwork : public Network {
 public:
  using Network::Network;

 protected:
  struct View {
    Variable logits, embedding;
  };
  /// What subnetwork 0 or 1 makes of x.
  virtual View view(size_t subnetwork, const Variable& x, const Pass& pass) const = 0;

  Variable run(const Variable& x, const Pass& pass) override;
  NetworkOutput run_all(const Variable& x, const Pass& pass) override;
};

class CML : public TwoViewNetwork {
 public:
  explicit CML(const NetworkOptions& options);
  std::array<int64_t, 3> divisor() const override { return {16, 16, 16}; }

 protected:
  View view(size_t subnetwork, const Variable& x, const Pass& pass) const override;

 private:
  std::deque<VNetEncoder> encoders_;
  std::deque<VNetDecoder> decoders_;
  std::deque<ConvLayer> heads_;
};

class CML2D : public TwoViewNetwork {
 public:
  /// `shared`: as the released 2D code, where both views are one encoder and the linear decoder, which then
  /// differ by their dropout alone. It declares the transposed decoder and never uses it: 2,577,624
  /// parameters.
  CML2D(const NetworkOptions& options, bool shared);
  std::array<int64_t, 3> divisor() const override { return {1, 16, 16}; }

 protected:
  View view(size_t subnetwork, const Variable& x, const Pass& pass) const override;

 private:
  bool shared_;
  std::deque<UNet2DEncoder> encoders_;
  std::deque<UNet2DDecoder> decoders_;
  std::deque<ConvLayer> heads_;
};

}  // namespace semivox
