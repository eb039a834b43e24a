// RCPS's U-Net (Zhao et al., "RCPS: Rectified contrastive pseudo supervision", 2023): residual blocks with
// batch norm and PReLU (one slope each), convolutions with stride 2 down, trilinear interpolation up (corners
// not aligned), skips joined by concatenation, logits at four resolutions, all brought to the finest, and a
// projector. `auxiliary` holds the logits from 1/2, 1/4 and 1/8, `features` 64-channel embeddings at 1/4.
// 6,004,603 parameters with 16 filters and 2 classes.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "layers/block.hpp"
#include "layers/network.hpp"

namespace semivox {

/// Two 3^3 convolutions without bias and, beside them, the input or a 1^3 convolution of it; all with batch
/// norm.
class ResidualUnit {
 public:
  ResidualUnit(ParameterSet& set, const std::string& name, int64_t in_channels, int64_t out_channels,
               int64_t stride);
  Variable operator()(const Variable& x, const Pass& pass) const;

 private:
  std::deque<Block> convolutions_, shortcut_;  // shortcut: none or one
};

class UNet3DRCPS : public Network {
 public:
  /// Throws UsageError for dropout, which this network has not.
  explicit UNet3DRCPS(const NetworkOptions& options);
  std::array<int64_t, 3> divisor() const override { return {16, 16, 16}; }

 protected:
  Variable run(const Variable& x, const Pass& pass) override;
  NetworkOutput run_all(const Variable& x, const Pass& pass) override;

 private:
  /// Feature maps of the decoder, finest first: conv0_4, conv1_3, conv2_2, conv3_1.
  std::vector<Variable> decode(const Variable& x, const Pass& pass) const;

  std::deque<ResidualUnit> encoder_, decoder_;  // decoder: conv3_1 ... conv0_4
  std::deque<ConvLayer> heads_;                 // convds3 ... convds0
  std::deque<Block> projector_;
  ConvLayer projection_;
};

}  // namespace semivox
