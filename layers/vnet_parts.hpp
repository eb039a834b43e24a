// The two halves of the V-Net (layers/vnet.hpp), which several networks combine: one encoder with two or
// three decoders, a ResNet encoder with this decoder, other heads.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "layers/block.hpp"
#include "layers/network.hpp"

namespace semivox {

/// How a decoder doubles its feature maps.
enum class UpSampling {
  transposed,  ///< transposed convolution 2^d
  linear,      ///< linear interpolation between aligned corners, then a convolution
  nearest      ///< nearest neighbour, then a convolution
};

/// Convolutions of one resolution; with `residual` the stage's input is added before its last activation.
class VNetStage {
 public:
  /// `<name>.conv.<child>`, `count` convolutions of 3^3. Throws UsageError for a norm unknown to the V-Net.
  VNetStage(ParameterSet& set, const std::string& name, int64_t count, int64_t in_channels,
            int64_t out_channels, const NetworkOptions& options);
  Variable operator()(const Variable& x, const Pass& pass, double dropout = 0.0) const;

 private:
  std::deque<Block> blocks_;
  bool residual_;
  int64_t width_;
};

class VNetEncoder {
 public:
  /// Declares `<prefix>block_one` ... `<prefix>block_five`. Throws UsageError for filters that group norm
  /// cannot divide and for an image that a residual first stage cannot add.
  VNetEncoder(ParameterSet& set, const std::string& prefix, const NetworkOptions& options);

  /// Feature maps of the five levels, finest first; the deepest with channel dropout.
  std::vector<Variable> operator()(const Variable& x, const Pass& pass, double dropout) const;

 private:
  std::deque<VNetStage> stages_;
  std::deque<Block> downs_;
};

class VNetDecoder {
 public:
  /// Declares `<prefix>block_five_up` ... `<prefix>block_nine`.
  VNetDecoder(ParameterSet& set, const std::string& prefix, const NetworkOptions& options,
              UpSampling up_sampling = UpSampling::transposed);

  /// One step up, 0 (from the deepest) to 3: from h to the resolution and width of `skip`, the encoder's
  /// output of that level. Channel dropout behind the last step.
  Variable up(size_t step, Variable h, Variable skip, const Pass& pass, double dropout) const;

  /// From the encoder's five levels to (N, filters, D, H, W), with channel dropout.
  Variable operator()(std::vector<Variable> levels, const Pass& pass, double dropout) const;

 private:
  UpSampling up_sampling_;
  std::deque<Block> ups_;
  std::deque<VNetStage> stages_;
};

}  // namespace semivox
