// Packed copies of one layer's weights for oneDNN, refreshed when the weights' version changes.
#pragma once

#include <functional>

#include "kernels/conv.hpp"
#include "kernels/onednn_primitives.hpp"

namespace semivox::kernels::onednn {

/// The weights in format `desc`, for the layer itself or turned around for the gradient of its input. `pack`
/// fills the memory and is called only when there is no such copy of this version of the values.
dnnl::memory packed_weights(const ConvWeights& weights, const MemoryDesc& desc, bool turned,
                            const std::function<void(const dnnl::memory& packed)>& pack);

}  // namespace semivox::kernels::onednn
