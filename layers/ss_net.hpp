// SS-Net (Wu et al., MICCAI 2022): V-Net or 2D U-Net whose last feature map (`features`, behind the dropout
// in 3D) is embedded voxel by voxel, with heads for the contrast between voxels and stored prototypes.
// 9,457,318 parameters in 3D with 2 classes, 1,826,828 in 2D with 4.
#pragma once

#include <deque>
#include <string>

#include "layers/network.hpp"
#include "layers/unet2d.hpp"
#include "layers/vnet_parts.hpp"

namespace semivox {

/// Linear, batch norm over all voxels, leaky ReLU, Linear, applied to every voxel.
class VoxelHead {
 public:
  /// Declares `<name>.0`, `<name>.1` and `<name>.3`; `slope` is the activation's below zero.
  VoxelHead(ParameterSet& set, const std::string& name, int64_t in_channels, int64_t hidden,
            int64_t out_channels, double slope);

  /// x (N, in_channels, d, h, w) -> (N, out_channels, d, h, w).
  Variable operator()(const Variable& x, const Pass& pass) const;

 private:
  Block first_;
  ConvLayer second_;
};

/// The heads of SS-Net; each is called with a pass of its own, because the method mixes modes.
struct ContrastHeads {
  /// Embeddings have twice the features' channels.
  ContrastHeads(ParameterSet& set, int64_t features, int64_t classes);

  VoxelHead projection;                                     ///< features -> embedding
  VoxelHead prediction;                                     ///< embedding -> embedding
  std::deque<VoxelHead> class_selectors, memory_selectors;  ///< embedding -> score, one per class
};

/// A network with these heads.
class ContrastNetwork : public Network {
 public:
  using Network::Network;
  virtual const ContrastHeads& heads() const = 0;
};

class VNetContrast : public ContrastNetwork {
 public:
  explicit VNetContrast(const NetworkOptions& options);
  std::array<int64_t, 3> divisor() const override { return {16, 16, 16}; }
  const ContrastHeads& heads() const override { return heads_; }

 protected:
  Variable run(const Variable& x, const Pass& pass) override { return run_all(x, pass).logits; }
  NetworkOutput run_all(const Variable& x, const Pass& pass) override;

 private:
  VNetEncoder encoder_;
  VNetDecoder decoder_;
  ConvLayer out_conv_;
  ContrastHeads heads_;
};

class UNet2DContrast : public ContrastNetwork {
 public:
  explicit UNet2DContrast(const NetworkOptions& options);
  std::array<int64_t, 3> divisor() const override { return {1, 16, 16}; }
  const ContrastHeads& heads() const override { return heads_; }

 protected:
  Variable run(const Variable& x, const Pass& pass) override { return run_all(x, pass).logits; }
  NetworkOutput run_all(const Variable& x, const Pass& pass) override;

 private:
  UNet2DEncoder encoder_;
  UNet2DDecoder decoder_;
  ConvLayer out_conv_;
  ContrastHeads heads_;
};

}  // namespace semivox
