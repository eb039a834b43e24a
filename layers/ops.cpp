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

Variable conv(const Variable& x, const ConvLayer& layer, bool logits) {
  const DType dtype = logits && x.value().dtype() == DType::bf16 ? DType::f32 : x.value().dtype();
  Tensor y = Tensor::empty(layer.geometry.output_shape(x.shape()), dtype, x.value().device());
  kernels::conv_forward(layer.geometry, x.value(), layer.weights(), layer.bias_value(), y);
  return Variable::result(y, {x}, layer.set->trainable(), [x, &layer](const Tensor& dy) {
    if (layer.set->trainable()) {
      kernels::conv_backward_weights(layer.geometry, x.value(), dy, layer.weight->gradient);
      if (layer.bias != nullptr) kernels::add_channel_sums(dy, layer.bias->gradient);
    }
    if (x.needs_gradient()) {
      Tensor dx = Tensor::empty(x.shape(), x.value().dtype(), x.value().device());
      kernels::conv_backward_data(layer.geometry, dy, layer.weights(), dx);
      x.add_gradient(dx);
    }
  });
}

Variable conv_norm_act(const Variable& x, const ConvLayer& layer, const kernels::NormBlock& block,
                       kernels::NormCall call, const Variable& skip) {
  Tensor y = Tensor::empty(layer.geometry.output_shape(x.shape()), x.value().dtype(), x.value().device());
  kernels::conv_forward(layer.geometry, x.value(), layer.weights(), layer.bias_value(), y);
  kernels::NormSaved saved;
  const Tensor skip_value = skip.defined() ? skip.value() : Tensor();
  Tensor out = kernels::norm_forward(block, call, y, skip_value, saved);
  std::vector<Variable> inputs{x};
  if (skip.defined()) inputs.push_back(skip);
  return Variable::result(
      out, inputs, layer.set->trainable(),
      [x, skip, skip_value, y, saved, call, &layer, &block](const Tensor& d_out) {
        if (call.skip_mode == kernels::Skip::after) skip.add_gradient(d_out);
        Tensor d_skip;
        const bool before = call.skip_mode == kernels::Skip::before;
        const Tensor dy =
            kernels::norm_backward(block, call, y, before ? skip_value : Tensor(), saved, d_out, &d_skip);
        if (before) skip.add_gradient(d_skip);
        if (layer.set->trainable()) {
          kernels::conv_backward_weights(layer.geometry, x.value(), dy, layer.weight->gradient);
        }
        if (x.needs_gradient()) {
          Tensor dx = Tensor::empty(x.shape(), x.value().dtype(), x.value().device());
          kernels::conv_backward_data(layer.geometry, dy, layer.weights(), dx);
          x.add_gradient(dx);
        }
      });
}

Variable concat_channels(const Variable& a, const Variable& b) {
  const int64_t ca = a.shape().c, cb = b.shape().c;
  return Variable::result(kernels::concat_channels(a.value(), b.value()), {a, b}, false,
                          [=](const Tensor& gradient) {
                            if (a.needs_gradient()) a.add_gradient(kernels::take_channels(gradient, 0, ca));
                            if (b.needs_gradient()) b.add_gradient(kernels::take_channels(gradient, ca, cb));
                          });
}

Variable take_channels(const Variable& x, int64_t first, int64_t count) {
  return Variable::result(
      kernels::take_channels(x.value(), first, count), {x}, false, [=](const Tensor& gradient) {
        Tensor whole = gradient;
        const auto zeros = [&](int64_t channels) {
          return Tensor::zeros(x.shape().with_channels(channels), gradient.dtype(), gradient.device());
        };
        const int64_t behind = x.shape().c - first - count;
        if (first > 0) whole = kernels::concat_channels(zeros(first), whole);
        if (behind > 0) whole = kernels::concat_channels(whole, zeros(behind));
        x.add_gradient(whole);
      });
}

Variable repeat_channel(const Variable& x, int64_t channels) {
  return Variable::result(
      kernels::repeat_channel(x.value(), channels), {x}, false,
      [x](const Tensor& gradient) { x.add_gradient(kernels::sum_over_channels(gradient)); });
}

}  // namespace semivox
