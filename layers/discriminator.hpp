// SASSNet's discriminator (Li et al., MICCAI 2020): five 4^3 convolutions with stride 2, leaky ReLU (0.2) and
// channel dropout, the mean over all voxels and a linear layer tell signed distance maps of labelled cases
// (class 1) from others. 11,020,290 parameters. The published code averages over 7x7x5 voxels, which is the
// mean over all of them for its patch of 112x112x80.
#pragma once

#include <deque>

#include "layers/block.hpp"
#include "layers/network.hpp"

namespace semivox {

/// Takes [map, image] joined along the channels, (N, 2, D, H, W), and gives logits (N, 2, 1, 1, 1). No
/// segmentation network: methods make it themselves.
class Discriminator : public Network {
 public:
  explicit Discriminator(int64_t filters = 64, double dropout = 0.5);
  std::array<int64_t, 3> divisor() const override { return {16, 16, 16}; }

 protected:
  Variable run(const Variable& x, const Pass& pass) override;

 private:
  Block map_;                       // conv0, and the activation of its sum with
  ConvLayer image_;                 // conv1
  std::deque<Block> convolutions_;  // conv2 ... conv4
  ConvLayer classifier_;
};

}  // namespace semivox
