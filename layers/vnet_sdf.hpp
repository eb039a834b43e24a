// The V-Net with two heads of DTC (Luo et al., AAAI 2021) and SASSNet (Li et al., MICCAI 2020): `out_conv`
// with tanh is a signed distance map (negative inside), `out_conv2` the logit b of a single foreground class.
// `logits` are (0, b), whose softmax over both channels is the sigmoid of b, so that everything that takes
// two classes takes this network too; `distance` is (N, 1, D, H, W). 9,448,866 parameters.
#pragma once

#include "layers/network.hpp"
#include "layers/vnet_parts.hpp"

namespace semivox {

class VNetSDF : public Network {
 public:
  /// Throws UsageError for another number of classes than 2.
  explicit VNetSDF(const NetworkOptions& options);
  std::array<int64_t, 3> divisor() const override { return {16, 16, 16}; }

 protected:
  Variable run(const Variable& x, const Pass& pass) override;
  NetworkOutput run_all(const Variable& x, const Pass& pass) override;

 private:
  Variable decoded(const Variable& x, const Pass& pass) const;
  Variable segmentation(const Variable& h) const;

  VNetEncoder encoder_;
  VNetDecoder decoder_;
  ConvLayer distance_, foreground_;
};

}  // namespace semivox
