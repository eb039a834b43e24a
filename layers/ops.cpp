#include "layers/ops.hpp"

#include "kernels/shuffle.hpp"

namespace semivox {

const kernels::ConvWeights& ConvLayer::weights() const {
  if (!bound.values.defined()) {
    bound.values = weight->value;
    bound.version = set->version();
  }
  return bound;
}

const ConvLayer::Folded& ConvLayer::folded(const kernels::NormBlock& block) const {
  const uint64_t now = set->buffer_version();
  if (fold.made_from == now) return fold;
  if (!fold.bias.defined()) {
    fold.weights.values = Tensor::empty(weight->value.shape(), weight->value.dtype(),
                                           weight->value.device(), MemoryTag::weights);
    fold.bias =
        Tensor::empty(bias->value.shape(), bias->value.dtype(), bias->value.device(), MemoryTag::weights);
  }
  const auto& k = geometry.kernel;
  const int64_t run = k[0] * k[1] * k[2] * (geometry.transposed ? 1 : geometry.in_channels);
  kernels::fold_norm(block, weight->value, run, fold.weights.values, fold.bias);
  fold.weights.version = std::make_shared<uint64_t>(now);
  fold.made_from = now;
  return fold;
}

namespace {

/// Backward of y = conv(x) + bias but for the bias. `x` is the input as `for_backward` keeps it, of type
/// `dtype`.
void conv_backward(const ConvLayer& layer, const Variable& x, DType dtype, const Tensor& dy) {
  if (layer.set->trainable()) {
    kernels::conv_backward_weights(layer.geometry, x.value(), dy, layer.weight->gradient);
  }
  if (x.needs_gradient()) {
    Tensor dx = Tensor::empty(x.shape(), dtype, dy.device());
    kernels::conv_backward_data(layer.geometry, dy, layer.weights(), dx);
    x.add_gradient(dx);
  }
}

/// A block's result without gradients: normalisation and activation go into the convolution where they can.
Tensor evaluate_block(const Tensor& x, const ConvLayer& layer, const kernels::NormBlock& block,
                      const Tensor& skip) {
  Tensor y = Tensor::empty(layer.geometry.output_shape(x.shape()), x.dtype(), x.device());
  const ConvLayer::Folded& folded = layer.folded(block);
  kernels::conv_forward_act(layer.geometry, x, folded.weights, folded.bias, block.slope, skip, y);
  return y;
}

}  // namespace

Variable conv(const Variable& x, const ConvLayer& layer, bool logits) {
  const DType in = x.value().dtype(), out = logits && in == DType::bf16 ? DType::f32 : in;
  Tensor y = Tensor::empty(layer.geometry.output_shape(x.shape()), out, x.value().device());
  kernels::conv_forward(layer.geometry, x.value(), layer.weights(), layer.bias->value, y);
  return Variable::result(y, {x}, layer.set->trainable(),
                          [x = x.for_backward(), in, &layer](const Tensor& dy) {
                            if (layer.set->trainable()) kernels::add_channel_sums(dy, layer.bias->gradient);
                            conv_backward(layer, x, in, dy);
                          });
}

Variable conv_norm_act(const Variable& x, const ConvLayer& layer, const kernels::NormBlock& block,
                       kernels::NormCall call, const Variable& skip) {
  const Tensor skip_value = skip.defined() ? skip.value() : Tensor();
  if (!gradients_enabled() && kernels::is_foldable(block, call)) {
    return Variable(evaluate_block(x.value(), layer, block, skip_value));
  }
  const DType dtype = x.value().dtype();
  Tensor y = Tensor::empty(layer.geometry.output_shape(x.shape()), dtype, x.value().device());
  kernels::conv_forward(layer.geometry, x.value(), layer.weights(), layer.bias->value, y);
  kernels::NormSaved saved;
  Tensor out = kernels::norm_forward(block, call, y, skip_value, saved);
  if (block.norm == kernels::Norm::batch && call.batch_statistics) layer.set->touch_buffers();
  std::vector<Variable> inputs{x};
  if (skip.defined()) inputs.push_back(skip);
  const Variable source = x.for_backward(), other = skip.for_backward();
  const auto backward = [source, other, dtype, y, saved, call, &layer, &block](const Tensor& d_out) {
    const bool before = call.skip_mode == kernels::Skip::before;
    if (call.skip_mode == kernels::Skip::after) other.add_gradient(d_out);
    Tensor d_skip;
    const Tensor dy =
        kernels::norm_backward(block, call, y, before ? other.value() : Tensor(), saved, d_out, &d_skip);
    if (before) other.add_gradient(d_skip);
    conv_backward(layer, source, dtype, dy);
  };
  const auto recompute = [other, y, saved, call, &block] {
    return kernels::norm_apply(block, call, y, other.defined() ? other.value() : Tensor(), saved);
  };
  return Variable::result(out, inputs, layer.set->trainable(), backward, recompute);
}

Variable concat_channels(const Variable& a, const Variable& b) {
  const int64_t ca = a.shape().c, cb = b.shape().c;
  const Variable left = a.for_backward(), right = b.for_backward();
  return Variable::result(
      kernels::concat_channels(a.value(), b.value()), {a, b}, false,
      [=](const Tensor& gradient) {
        if (left.needs_gradient()) left.add_gradient(kernels::take_channels(gradient, 0, ca));
        if (right.needs_gradient()) right.add_gradient(kernels::take_channels(gradient, ca, cb));
      },
      [=] { return kernels::concat_channels(left.value(), right.value()); });
}

Variable repeat_channel(const Variable& x, int64_t channels) {
  const Variable input = x.for_backward();
  return Variable::result(
      kernels::repeat_channel(x.value(), channels), {x}, false,
      [input](const Tensor& gradient) { input.add_gradient(kernels::sum_over_channels(gradient)); },
      [input, channels] { return kernels::repeat_channel(input.value(), channels); });
}

}  // namespace semivox
