// 3D-ResVNet of MCF (Wang et al., CVPR 2023): a ResNet-34 encoder with basic blocks (He et al., CVPR 2016),
// stem 7^3 at full resolution, 16 channels at first, and the V-Net's decoder. Channel dropout only behind the
// decoder. 17,930,354 parameters with 2 classes.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "layers/network.hpp"
#include "layers/vnet_parts.hpp"

namespace semivox {

/// Two 3^3 convolutions without bias, batch norm, and the input (or a 1^3 convolution of it) added before the
/// last ReLU.
class BasicBlock {
 public:
  BasicBlock(ParameterSet& set, const std::string& name, int64_t in_channels, int64_t out_channels,
             int64_t stride);
  Variable operator()(const Variable& x, const Pass& pass) const;

 private:
  std::deque<Block> convolutions_, shortcut_;  // shortcut: none or one
};

class ResNetEncoder {
 public:
  /// Declares `<prefix>conv1`, `<prefix>bn1`, `<prefix>layer1` ... `<prefix>layer4`. Throws UsageError for
  /// another norm than batch norm.
  ResNetEncoder(ParameterSet& set, const std::string& prefix, const NetworkOptions& options);

  /// Feature maps of the five levels, finest first.
  std::vector<Variable> operator()(const Variable& x, const Pass& pass) const;

 private:
  Block stem_;
  std::deque<std::deque<BasicBlock>> layers_;
};

class ResVNet : public Network {
 public:
  explicit ResVNet(const NetworkOptions& options);
  std::array<int64_t, 3> divisor() const override { return {16, 16, 16}; }

 protected:
  Variable run(const Variable& x, const Pass& pass) override;

 private:
  ResNetEncoder encoder_;
  VNetDecoder decoder_;
  ConvLayer out_conv_;
};

}  // namespace semivox
