// Differentiable ops that networks are built from: what runs on the tape, and what each op keeps for
// backward.
#pragma once

#include "engine/variable.hpp"
#include "kernels/conv.hpp"
#include "kernels/norm.hpp"

namespace semivox {

/// A convolution's geometry and parameters.
struct ConvLayer {
  kernels::ConvGeometry geometry;
  Parameter* weight = nullptr;
  Parameter* bias = nullptr;  ///< null for a convolution without
  ParameterSet* set = nullptr;
  mutable kernels::ConvWeights bound;  ///< the weights and their packed copies, shared by all calls

  /// Weights and bias of an evaluation pass, with the normalisation in them.
  struct Folded {
    kernels::ConvWeights weights;
    Tensor bias;
    uint64_t made_from = 0;  ///< ParameterSet::buffer_version
  };
  mutable Folded fold;  ///< kept until parameters or running statistics change

  /// The weights as kernels want them, with the packed copies of earlier calls.
  const kernels::ConvWeights& weights() const;
  Tensor bias_value() const { return bias != nullptr ? bias->value : Tensor(); }

  /// The same with the fixed normalisation of `block` in them; made anew when parameters or buffers changed.
  const Folded& folded(const kernels::NormBlock& block) const;
};

/// y = conv(x) + bias. Keeps x (as Variable::for_backward does). For bf16 input, `logits` asks for f32
/// output.
Variable conv(const Variable& x, const ConvLayer& layer, bool logits = false);

/// out = act(norm(conv(x)) [+ skip]) [+ skip], with dropout of whole channels: see kernels/norm.hpp. Keeps x,
/// the convolution's output (or makes it again where that is cheap and ParameterSet::recompute says so) and
/// the sums of the statistics; out itself is made again from these when a later op's backward wants it.
/// Without gradients a fixed normalisation goes into the weights.
Variable conv_norm_act(const Variable& x, const ConvLayer& layer, const kernels::NormBlock& block,
                       kernels::NormCall call, const Variable& skip = {});

/// [a, b] along the channels. Keeps nothing.
Variable concat_channels(const Variable& a, const Variable& b);

/// Channels first ... first+count-1 of x. Keeps nothing.
Variable take_channels(const Variable& x, int64_t first, int64_t count);

/// The one channel of x, `channels` times. Keeps nothing.
Variable repeat_channel(const Variable& x, int64_t channels);

}  // namespace semivox
