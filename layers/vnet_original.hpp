// The original V-Net (Milletari, Navab, Ahmadi, "V-Net", 3DV 2016): 5^3 convolutions, PReLU, residual stages,
// skips joined by concatenation, no normalisation. 65,175,314 parameters with 16 filters and 2 classes.
#pragma once

#include <deque>

#include "layers/block.hpp"
#include "layers/network.hpp"

namespace semivox {

class VNetOriginal : public Network {
 public:
  /// Throws UsageError for a norm, and for input channels other than 1 or `filters`.
  explicit VNetOriginal(const NetworkOptions& options);
  std::array<int64_t, 3> divisor() const override { return {16, 16, 16}; }

 protected:
  Variable run(const Variable& x, const Pass& pass) override;

 private:
  using Stage = std::deque<Block>;
  Stage make_stage(const std::string& name, int64_t count, int64_t in_channels, int64_t width);

  std::deque<Stage> down_stages_, up_stages_;
  std::deque<Block> downs_, ups_;
  ConvLayer out_conv_;
};

}  // namespace semivox
