// DyCON's V-Net (Assefa et al., CVPR 2025): the V-Net without norms, whose deepest feature map, behind its
// dropout, is brought to twice its resolution and embedded. `features` are these embeddings, 16 * filters
// channels, not normalised; `distance` is the tanh of the logits. `out_conv2` belongs to the published
// parameters and to nothing else. 9,707,236 parameters with 16 filters and 2 classes.
//
// The published class does not run (a half-renamed argument); the arithmetic is what it says.
#pragma once

#include "layers/network.hpp"
#include "layers/vnet_parts.hpp"

namespace semivox {

class VNetDycon : public Network {
 public:
  explicit VNetDycon(const NetworkOptions& options);
  std::array<int64_t, 3> divisor() const override { return {16, 16, 16}; }

 protected:
  Variable run(const Variable& x, const Pass& pass) override;
  NetworkOutput run_all(const Variable& x, const Pass& pass) override;

 private:
  VNetEncoder encoder_;
  VNetDecoder decoder_;
  ConvLayer out_conv_, unused_;
  Block hidden_;  // of the projection
  ConvLayer embedding_;
};

}  // namespace semivox
