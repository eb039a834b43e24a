// CVBM (Cao, Li, Shi, IEEE Transactions on Image Processing 2025): one encoder, a decoder for the foreground
// and one for the background, and a 1x1 layer that mixes both logits. `logits` are the foreground decoder's,
// which predicts alone; `auxiliary` holds the mixed logits and the background decoder's, in this order. In 3D
// the V-Net with instance norm, decoders transposed and nearest: 12,340,412 parameters. In 2D the U-Net with
// two like decoders: 2,447,136 parameters with 4 classes. Both counts include layers that the published code
// declares and never uses, kept for the sake of weight files: a second head `out_conv2` on each 3D decoder
// and a second mixing layer.
#pragma once

#include "layers/network.hpp"
#include "layers/unet2d.hpp"
#include "layers/vnet_parts.hpp"

namespace semivox {

class CVBM : public Network {
 public:
  explicit CVBM(const NetworkOptions& options);
  std::array<int64_t, 3> divisor() const override { return {16, 16, 16}; }

 protected:
  Variable run(const Variable& x, const Pass& pass) override;
  NetworkOutput run_all(const Variable& x, const Pass& pass) override;

 private:
  /// A decoder with its head.
  struct Branch {
    VNetDecoder decoder;
    ConvLayer out_conv;
  };
  static Branch make_branch(ParameterSet& set, const std::string& prefix, const NetworkOptions& options,
                            UpSampling up_sampling);
  Variable logits(const Branch& branch, const std::vector<Variable>& levels, const Pass& pass) const;

  VNetEncoder encoder_;
  Branch foreground_, background_;
  ConvLayer mixing_;
};

class CVBM2D : public Network {
 public:
  explicit CVBM2D(const NetworkOptions& options);
  std::array<int64_t, 3> divisor() const override { return {1, 16, 16}; }

 protected:
  Variable run(const Variable& x, const Pass& pass) override;
  NetworkOutput run_all(const Variable& x, const Pass& pass) override;

 private:
  struct Branch {
    UNet2DDecoder decoder;
    ConvLayer out_conv;
  };
  static Branch make_branch(ParameterSet& set, const std::string& prefix, const NetworkOptions& options);

  UNet2DEncoder encoder_;
  Branch foreground_, background_;
  ConvLayer mixing_;
};

}  // namespace semivox
