// 3D U-Nets of SSL4MIS and of the methods built on it (after Cicek et al., "3D U-Net", MICCAI 2016, by way of
// Attention-Gated-Networks): two 3^3 convolutions per level with instance norm without parameters, max-pools
// down, trilinear doubling (align_corners = False) up, skips joined by concatenation. Five levels from 16 to
// 256 channels; 61 GMAC for a 96^3 patch.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "layers/aspp.hpp"
#include "layers/double_conv.hpp"
#include "layers/network.hpp"

namespace semivox {

/// Everything between the image and the heads, which differ.
class UNet3DTrunk {
 public:
  /// Declares `conv1` ... `conv4`, `center`, `up_concat4` ... `up_concat1`. Throws UsageError for another
  /// norm than instance norm.
  UNet3DTrunk(ParameterSet& set, const NetworkOptions& options);

  /// Feature maps of the five levels, finest first.
  std::vector<Variable> encode(const Variable& x, const Pass& pass) const;

  /// One step up: from `below` to the resolution and width of `skip`, the encoder's output of `level` (3 ...
  /// 0). `channel_dropout` acts on the result.
  Variable up(size_t level, const Variable& skip, const Variable& below, const Pass& pass,
              double channel_dropout = 0.0) const;

 private:
  std::deque<DoubleConv> encoder_, decoder_;
};

/// `unet_3D`: dropout of elements (0.3) on the deepest and on the last feature map. `features` is the deepest
/// map before its dropout. 5,884,050 parameters with 16 filters and 2 classes.
class UNet3D : public Network {
 public:
  explicit UNet3D(const NetworkOptions& options);
  std::array<int64_t, 3> divisor() const override { return {16, 16, 16}; }

 protected:
  Variable run(const Variable& x, const Pass& pass) override;
  NetworkOutput run_all(const Variable& x, const Pass& pass) override;

 private:
  UNet3DTrunk trunk_;
  ConvLayer final_;
};

/// `unet_3D_dv_semi` of URPC: logits at four resolutions, all brought to the finest; `auxiliary` holds those
/// from 1/2, 1/4 and 1/8. Channel dropout behind every step up, of which `dropout` is the deepest one's
/// probability (0.5); the others have 0.6, 0.4 and 0.2 of it. 5,884,504 parameters.
class UNet3DDeepSupervision : public Network {
 public:
  explicit UNet3DDeepSupervision(const NetworkOptions& options);
  std::array<int64_t, 3> divisor() const override { return {16, 16, 16}; }

 protected:
  Variable run(const Variable& x, const Pass& pass) override;
  NetworkOutput run_all(const Variable& x, const Pass& pass) override;

 private:
  /// Feature maps of the decoder, finest first.
  std::vector<Variable> decode(const Variable& x, const Pass& pass) const;

  UNet3DTrunk trunk_;
  std::deque<ConvLayer> heads_;  // dsv4 ... dsv1
};

/// DyCON's U-Net: `features` are 256-channel embeddings of the deepest feature map at twice its resolution,
/// not normalised, `distance` a tanh head with a map per class that the method's code computes and ignores.
/// Dropout as in UNet3D. The weights of batch norm start from N(1, 0.02^2). 6,148,532 parameters, with ASPP
/// between the deepest feature map and the embeddings (dropout 0.5 unless the options say 0) 11,918,772.
class UNet3DContrast : public Network {
 public:
  UNet3DContrast(const NetworkOptions& options, bool with_aspp);
  std::array<int64_t, 3> divisor() const override { return {16, 16, 16}; }

 protected:
  Variable run(const Variable& x, const Pass& pass) override;
  NetworkOutput run_all(const Variable& x, const Pass& pass) override;

 private:
  UNet3DTrunk trunk_;
  ConvLayer distance_, segmentation_;
  std::optional<ASPP> aspp_;
  std::deque<Block> projection_;
};

}  // namespace semivox
