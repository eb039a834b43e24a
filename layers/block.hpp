// The block conv -> norm -> activation (-> dropout) (-> + skip) with its parameters under PyTorch's names.
#pragma once

#include <deque>
#include <string>

#include "layers/network.hpp"

namespace semivox {

struct BlockOptions {
  kernels::ConvGeometry geometry;
  kernels::Norm norm = kernels::Norm::batch;
  double slope = 0.0;                 ///< of the activation below zero
  bool prelu = false;                 ///< learn the slope, one per channel, starting at 0.25
  Parameter* shared_slope = nullptr;  ///< learn this one slope for all channels
  bool bias = true;                   ///< of the convolution
  int axes = 3;                       ///< see `declare_conv`
};

class Block {
 public:
  /// Declares `<conv_name>.weight`, with `bias` `.bias`, for batch and group norm `<norm_name>.weight`,
  /// `.bias`, for batch norm the running statistics, and with `prelu` `<conv_name>.slope`. Initial values are
  /// PyTorch's defaults: U(-b, b) with b = 1/sqrt(fan), fan = weight.dims[1] * kernel volume.
  Block(ParameterSet& set, const std::string& conv_name, const std::string& norm_name,
        const BlockOptions& options);

  /// A convolution, declared by the caller, and PReLU with one slope.
  Block(ConvLayer convolution, Parameter& shared_slope);

  /// `dropout` drops whole channels of the result with this probability when the pass trains.
  Variable operator()(const Variable& x, const Pass& pass, double dropout = 0.0, const Variable& skip = {},
                      kernels::Skip mode = kernels::Skip::none) const;

  const ConvLayer& convolution() const { return conv_; }

 private:
  ConvLayer conv_;
  kernels::NormBlock norm_;
};

/// Declares a bare convolution, `<name>.weight` and, with `bias`, `<name>.bias`. `axes` is how many axes the
/// kernel has in the weight's shape: 3; 2 in networks for 2D images; 0 for PyTorch's Linear, applied to every
/// voxel. The kernel's extent along the missing ones is 1.
ConvLayer declare_conv(ParameterSet& set, const std::string& name, const kernels::ConvGeometry& geometry,
                       int axes = 3, bool bias = true);

/// Gives all convolutions declared so far Kaiming's first values for ReLU, normal with variance 2 / fan (He
/// et al., ICCV 2015); biases keep theirs.
void use_kaiming_normal(ParameterSet& set);

/// Gives the weights of all norms declared so far their first values from N(1, deviation^2).
void use_normal_norms(ParameterSet& set, double deviation);

/// Geometries of the V-Net family: same size with zero padding, halved (kernel 2, stride 2), doubled
/// (transposed).
kernels::ConvGeometry same_conv(int64_t in_channels, int64_t out_channels, int64_t kernel);
kernels::ConvGeometry down_conv(int64_t in_channels, int64_t out_channels);
kernels::ConvGeometry up_conv(int64_t in_channels, int64_t out_channels);

}  // namespace semivox
