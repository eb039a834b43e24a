// Atrous spatial pyramid pooling (Chen et al., "Rethinking atrous convolution for semantic image
// segmentation", 2017) in 3D, as DyCON's network has it behind its deepest feature map.
#pragma once

#include <deque>
#include <string>

#include "layers/block.hpp"

namespace semivox {

/// Five views of the same map, each through convolution, batch norm and ReLU: 1^3; 3^3 with taps 6, 12 and 18
/// voxels apart; the mean over all voxels. They are joined and mixed by a 1^3 convolution with batch norm,
/// ReLU and element-wise dropout. No convolution has a bias.
class ASPP {
 public:
  /// Declares `<name>.aspp1` ... `aspp4`, `global_avg_pool.1`, `bn_after_pool`, `conv1` and `bn1`.
  ASPP(ParameterSet& set, const std::string& name, int64_t in_channels, int64_t out_channels);

  /// `dropout`: probability of the dropout. A batch of one sample skips the norm of the mean, of which there
  /// are no statistics.
  Variable operator()(const Variable& x, const Pass& pass, double dropout) const;

 private:
  std::deque<Block> branches_;
  Block pooled_, mix_;
  kernels::NormBlock activation_;  // in place of the norm of `pooled_`, for a batch of one
};

}  // namespace semivox
