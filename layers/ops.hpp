// Differentiable ops that networks are built from: what runs on the tape, and what each op keeps for
// backward.
#pragma once

#include "engine/variable.hpp"
#include "kernels/conv.hpp"
#include "kernels/norm.hpp"

namespace semivox {

/// A convolution's geometry and parameters; `packed` weights are shared by all calls.
struct ConvLayer {
  kernels::ConvGeometry geometry;
  Parameter* weight = nullptr;
  Parameter* bias = nullptr;  ///< null for a convolution without
  const ParameterSet* set = nullptr;
  mutable kernels::ConvWeights bound;

  /// The weights as kernels want them, with the packed copies of earlier calls.
  const kernels::ConvWeights& weights() const;
  Tensor bias_value() const { return bias != nullptr ? bias->value : Tensor(); }
};

/// y = conv(x) + bias. Keeps x. For bf16 input, `logits` asks for f32 output.
Variable conv(const Variable& x, const ConvLayer& layer, bool logits = false);

/// out = act(norm(conv(x)) [+ skip]) [+ skip], with dropout of whole channels: see kernels/norm.hpp. Keeps x,
/// the convolution's output and the sums of the statistics.
Variable conv_norm_act(const Variable& x, const ConvLayer& layer, const kernels::NormBlock& block,
                       kernels::NormCall call, const Variable& skip = {});

/// [a, b] along the channels. Keeps nothing.
Variable concat_channels(const Variable& a, const Variable& b);

/// Channels first ... first+count-1 of x. Keeps nothing.
Variable take_channels(const Variable& x, int64_t first, int64_t count);

/// The one channel of x, `channels` times. Keeps nothing.
Variable repeat_channel(const Variable& x, int64_t channels);

}  // namespace semivox
