#include "kernels/conv.hpp"

#include <optional>

#include "engine/arithmetic.hpp"
#include "engine/profile.hpp"
#include "kernels/conv_pairs.hpp"
#include "kernels/conv_thin.hpp"
#include "kernels/conv_winograd.hpp"
#include "kernels/norm.hpp"

namespace semivox::kernels {

namespace {

void check_activations(const ConvGeometry& g, const Tensor& input, const Tensor& output) {
  const Shape expected = g.output_shape(input.shape());
  SEMIVOX_CHECK(output.shape() == expected, "convolution of ", input.shape().str(), ": output ",
                output.shape().str(), ", expected ", expected.str());
  const bool logits = input.dtype() == DType::bf16 && output.dtype() == DType::f32;
  SEMIVOX_CHECK(input.dtype() == output.dtype() || logits, "convolution from ", name_of(input.dtype()),
                " to ", name_of(output.dtype()));
  SEMIVOX_CHECK(input.dtype() == DType::f32 || input.dtype() == DType::bf16 || input.dtype() == DType::f64,
                "convolution of ", name_of(input.dtype()));
  SEMIVOX_CHECK(input.device() == output.device(), "input on ", input.device().name(), ", output on ",
                output.device().name());
}

/// Weights, their gradient and the bias are f32, f64 when the activations are.
void check_parameters(const Tensor& values, int64_t count, const Tensor& activations) {
  const DType expected = activations.dtype() == DType::f64 ? DType::f64 : DType::f32;
  SEMIVOX_CHECK(values.elements() == count, "convolution parameters: ", values.elements(),
                " values, expected ", count);
  SEMIVOX_CHECK(values.dtype() == expected, "convolution parameters are ", name_of(values.dtype()),
                ", expected ", name_of(expected));
  SEMIVOX_CHECK(values.device() == activations.device(), "parameters on ", values.device().name(),
                ", activations on ", activations.device().name());
}

/// Layers for kernels/conv_dilated.cu; f64 stays with the plain loops.
bool has_gaps(const ConvGeometry& g, const Tensor& x) { return g.dilation > 1 && x.dtype() != DType::f64; }

/// act(conv(x) + bias) on the CPU in f32 or bf16, by whichever variant is the fastest for the layer.
void forward_on_cpu(const ConvGeometry& g, const Tensor& x, const ConvWeights& weights, const Tensor& bias,
                    std::optional<double> slope, Tensor& y) {
  const auto below_zero = static_cast<float>(slope.value_or(1.0));
  if (thin::takes(g, x, y)) return thin::forward(g, x, weights, bias, below_zero, y);
  if (pairs::takes(g, x, y)) return pairs::forward(g, x, weights, bias, below_zero, y);
  if (winograd::takes(g, x, y)) return winograd::forward(g, x, weights, bias, below_zero, y);
  if (slope) return onednn::conv_forward_act(g, x, weights, bias, *slope, y);
  onednn::conv_forward(g, x, weights, bias, y);
}

}  // namespace

void conv_forward(const ConvGeometry& geometry, const Tensor& x, const ConvWeights& weights,
                  const Tensor& bias, Tensor& y) {
  check_activations(geometry, x, y);
  check_parameters(weights.values, geometry.weight_count(), x);
  if (bias.defined()) check_parameters(bias, geometry.out_channels, x);
  const Range range("conv.forward", x.device());
  if (has_gaps(geometry, x)) return dilated::conv_forward(geometry, x, weights, bias, y);
#ifdef SEMIVOX_CUDA
  if (x.device().is_cuda()) return cudnn::conv_forward(geometry, x, weights, bias, y);
#endif
  SEMIVOX_CHECK(!x.device().is_cuda(), "built without CUDA");
  if (x.dtype() == DType::f64) return reference::conv_forward(geometry, x, weights, bias, y);
  forward_on_cpu(geometry, x, weights, bias, {}, y);
}

void conv_forward_act(const ConvGeometry& geometry, const Tensor& x, const ConvWeights& weights,
                      const Tensor& bias, double slope, const Tensor& skip, Tensor& y) {
  SEMIVOX_CHECK(!skip.defined() || (skip.shape() == y.shape() && skip.dtype() == y.dtype()), "skip ",
                skip.shape().str(), " for ", y.shape().str());
  if (x.device().is_cuda() || x.dtype() == DType::f64 || has_gaps(geometry, x)) {
    conv_forward(geometry, x, weights, {}, y);
    return activate(y, bias, slope, skip);
  }
  check_activations(geometry, x, y);
  check_parameters(weights.values, geometry.weight_count(), x);
  check_parameters(bias, geometry.out_channels, x);
  const Range range("conv.forward", x.device());
  forward_on_cpu(geometry, x, weights, bias, slope, y);
  if (skip.defined()) add_in_place(y, skip);
}

void conv_backward_data(const ConvGeometry& geometry, const Tensor& dy, const ConvWeights& weights,
                        Tensor& dx) {
  check_activations(geometry, dx, dy);
  check_parameters(weights.values, geometry.weight_count(), dx);
  const Range range("conv.backward_data", dx.device());
  if (has_gaps(geometry, dx)) return dilated::conv_backward_data(geometry, dy, weights, dx);
#ifdef SEMIVOX_CUDA
  if (dx.device().is_cuda()) return cudnn::conv_backward_data(geometry, dy, weights, dx);
#endif
  SEMIVOX_CHECK(!dx.device().is_cuda(), "built without CUDA");
  if (dx.dtype() == DType::f64) return reference::conv_backward_data(geometry, dy, weights, dx);
  if (pairs::takes(geometry, dx, dy)) return pairs::backward_data(geometry, dy, weights, dx);
  if (winograd::takes(geometry, dx, dy)) return winograd::backward_data(geometry, dy, weights, dx);
  onednn::conv_backward_data(geometry, dy, weights, dx);
}

void conv_backward_weights(const ConvGeometry& geometry, const Tensor& x, const Tensor& dy, Tensor& dw) {
  check_activations(geometry, x, dy);
  check_parameters(dw, geometry.weight_count(), x);
  const Range range("conv.backward_weights", x.device());
  if (has_gaps(geometry, x)) return dilated::conv_backward_weights(geometry, x, dy, dw);
#ifdef SEMIVOX_CUDA
  if (x.device().is_cuda()) return cudnn::conv_backward_weights(geometry, x, dy, dw);
#endif
  SEMIVOX_CHECK(!x.device().is_cuda(), "built without CUDA");
  if (x.dtype() == DType::f64) return reference::conv_backward_weights(geometry, x, dy, dw);
  if (thin::takes(geometry, x, dy)) return thin::backward_weights(geometry, x, dy, dw);
  if (winograd::takes(geometry, x, dy)) return winograd::backward_weights(geometry, x, dy, dw);
  onednn::conv_backward_weights(geometry, x, dy, dw);
}

}  // namespace semivox::kernels
