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
    fold.weights.values = Tensor::empty(weight->value.shape(), weight->value.dtype(), weight->value.device(),
                                        MemoryTag::weights);
    fold.bias = Tensor::empty({1, geometry.out_channels, 1, 1, 1}, weight->value.dtype(),
                              weight->value.device(), MemoryTag::weights);
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

/// Multiplications per output up to which a convolution may be made again: the layer that reads the image,
/// those that double or halve the grid, 1^3 ones. Counted for the V-Net with 16 filters: 51 % of the kept
/// values, 5 % of the forward pass' arithmetic.
constexpr int64_t kCheap = 256;

bool is_cheap(const kernels::ConvGeometry& g) {
  int64_t taps = 1, overlap = 1;
  for (size_t axis = 0; axis < 3; ++axis) {
    taps *= g.kernel[axis];
    if (g.transposed) overlap *= g.stride[axis];  // a transposed one reaches an output by taps / strides
  }
  return g.in_channels * taps <= kCheap * overlap;
}

/// y = conv(x) + bias.
Tensor convolve(const ConvLayer& layer, const Tensor& x) {
  Tensor y = Tensor::empty(layer.geometry.output_shape(x.shape()), x.dtype(), x.device());
  kernels::conv_forward(layer.geometry, x, layer.weights(), layer.bias_value(), y);
  return y;
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
  kernels::conv_forward(layer.geometry, x.value(), layer.weights(), layer.bias_value(), y);
  return Variable::result(y, {x}, layer.set->trainable(),
                          [x = x.for_backward(), in, &layer](const Tensor& dy) {
                            if (layer.set->trainable() && layer.bias != nullptr) {
                              kernels::add_channel_sums(dy, layer.bias->gradient);
                            }
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
  Tensor y = convolve(layer, x.value());
  kernels::NormSaved saved;
  Tensor out = kernels::norm_forward(block, call, y, skip_value, saved);
  if (layer.set->recompute() && is_cheap(layer.geometry)) y = Tensor();
  if (block.norm == kernels::Norm::batch && call.batch_statistics) layer.set->touch_buffers();
  std::vector<Variable> inputs{x};
  if (skip.defined()) inputs.push_back(skip);
  const Variable source = x.for_backward(), other = skip.for_backward();
  const auto backward = [source, other, dtype, y, saved, call, &layer, &block](const Tensor& d_out) {
    const bool before = call.skip_mode == kernels::Skip::before;
    if (call.skip_mode == kernels::Skip::after) other.add_gradient(d_out);
    Tensor d_skip;
    const Tensor own = y.defined() ? y : convolve(layer, source.value());
    const Tensor dy =
        kernels::norm_backward(block, call, own, before ? other.value() : Tensor(), saved, d_out, &d_skip);
    if (before) other.add_gradient(d_skip);
    conv_backward(layer, source, dtype, dy);
  };
  const auto recompute = [source, other, y, saved, call, &layer, &block] {
    const Tensor own = y.defined() ? y : convolve(layer, source.value());
    return kernels::norm_apply(block, call, own, other.defined() ? other.value() : Tensor(), saved);
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

Variable take_channels(const Variable& x, int64_t first, int64_t count) {
  const Variable input = x.for_backward();
  return Variable::result(
      kernels::take_channels(x.value(), first, count), {x}, false, [=](const Tensor& gradient) {
        Tensor whole = gradient;
        const auto zeros = [&](int64_t channels) {
          return Tensor::zeros(input.shape().with_channels(channels), gradient.dtype(), gradient.device());
        };
        const int64_t behind = input.shape().c - first - count;
        if (first > 0) whole = kernels::concat_channels(zeros(first), whole);
        if (behind > 0) whole = kernels::concat_channels(whole, zeros(behind));
        input.add_gradient(whole);
      });
}

Variable repeat_channel(const Variable& x, int64_t channels) {
  const Variable input = x.for_backward();
  return Variable::result(
      kernels::repeat_channel(x.value(), channels), {x}, false,
      [input](const Tensor& gradient) { input.add_gradient(kernels::sum_over_channels(gradient)); },
      [input, channels] { return kernels::repeat_channel(input.value(), channels); });
}

}  // namespace semivox
