// The two convolutions of one level of a U-Net.
#pragma once

#include "layers/block.hpp"

namespace semivox {

/// Drops elements when the pass trains and `probability` is not 0. Throws InternalError without random
/// numbers.
Variable dropout(const Variable& x, const Pass& pass, double probability);

/// Block, dropout of elements, block.
struct DoubleConv {
  Block first, second;

  /// `element_dropout` acts between the blocks, `channel_dropout` on the result.
  Variable operator()(const Variable& x, const Pass& pass, double element_dropout = 0.0,
                      double channel_dropout = 0.0) const;
};

}  // namespace semivox
