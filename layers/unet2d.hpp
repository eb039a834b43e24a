// The 2D U-Net of the ACDC experiments (Ronneberger et al., "U-Net", MICCAI 2015, as in SSL4MIS and the code
// of the methods that descend from it): five levels of two 3x3 convolutions with batch norm and leaky ReLU
// (0.01), max-pools down, 1x1 convolution and bilinear doubling up, skips joined by concatenation, dropout of
// elements inside the encoder's blocks. Images are (N, C, 1, H, W), weights (Co, Ci, kH, kW). 1,813,764
// parameters with 16 filters, 1 channel and 4 classes; 2.95 GMAC for 256x256 pixels.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "layers/double_conv.hpp"
#include "layers/network.hpp"
#include "layers/vnet_parts.hpp"

namespace semivox {

/// Square kernels of images with D = 1: same size with zero padding.
kernels::ConvGeometry same_conv_2d(int64_t in_channels, int64_t out_channels, int64_t kernel);

class UNet2DEncoder {
 public:
  /// Declares `<prefix>in_conv`, `<prefix>down1` ... `<prefix>down4`.
  UNet2DEncoder(ParameterSet& set, const std::string& prefix, const NetworkOptions& options);

  /// Feature maps of the five levels, finest first. `dropout` is the deepest level's probability; the others
  /// have 0.1, 0.2, 0.4 and 0.6 of it.
  std::vector<Variable> operator()(const Variable& x, const Pass& pass, double dropout) const;

 private:
  std::deque<DoubleConv> levels_;
};

class UNet2DDecoder {
 public:
  /// Declares `<prefix>up1` ... `<prefix>up4`. Transposed convolutions double by themselves; the two
  /// interpolations act behind a 1x1 convolution.
  UNet2DDecoder(ParameterSet& set, const std::string& prefix, const NetworkOptions& options,
                UpSampling up_sampling = UpSampling::linear);

  /// One step up, 0 (from the deepest) to 3: from h to the resolution and width of `skip`, the encoder's
  /// output of that level.
  Variable up(size_t step, Variable h, const Variable& skip, const Pass& pass) const;

  /// From the encoder's five levels to (N, filters, 1, H, W).
  Variable operator()(std::vector<Variable> levels, const Pass& pass) const;

 private:
  UpSampling up_sampling_;
  std::deque<ConvLayer> narrow_;  // halve the channels
  std::deque<DoubleConv> levels_;
};

/// The 3x3 layer from features to logits, `<prefix>out_conv`.
ConvLayer declare_unet2d_head(ParameterSet& set, const std::string& prefix, const NetworkOptions& options);

/// `features` is the decoder's map at half resolution, 2 * filters channels.
class UNet2D : public Network {
 public:
  /// Throws UsageError for another norm than batch norm.
  explicit UNet2D(const NetworkOptions& options);
  std::array<int64_t, 3> divisor() const override { return {1, 16, 16}; }

 protected:
  Variable run(const Variable& x, const Pass& pass) override;
  NetworkOutput run_all(const Variable& x, const Pass& pass) override;

 private:
  UNet2DEncoder encoder_;
  UNet2DDecoder decoder_;
  ConvLayer out_conv_;
};

}  // namespace semivox
