// The convolutions of the emulated build, in place of kernels/conv.cpp and the libraries behind it: on the
// device the kernels of kernels/conv_direct.cu, on the CPU the plain loops.
#include "kernels/conv_direct.hpp"
#include "kernels/norm.hpp"

namespace semivox::kernels {

void conv_forward(const ConvGeometry& g, const Tensor& x, const ConvWeights& weights, const Tensor& bias,
                  Tensor& y) {
  if (g.dilation > 1) return dilated::conv_forward(g, x, weights, bias, y);
  if (!x.device().is_cuda()) return reference::conv_forward(g, x, weights, bias, y);
  if (g.transposed) {
    direct::to_fine(g, x, weights.values, y);
  } else {
    direct::to_coarse(g, x, weights.values, y);
  }
  if (bias.defined()) activate(y, bias, 1, {});
}

void conv_forward_act(const ConvGeometry& g, const Tensor& x, const ConvWeights& weights, const Tensor& bias,
                      double slope, const Tensor& skip, Tensor& y) {
  conv_forward(g, x, weights, {}, y);
  activate(y, bias, slope, skip);
}

void conv_backward_data(const ConvGeometry& g, const Tensor& dy, const ConvWeights& weights, Tensor& dx) {
  if (g.dilation > 1) return dilated::conv_backward_data(g, dy, weights, dx);
  if (!dx.device().is_cuda()) return reference::conv_backward_data(g, dy, weights, dx);
  if (g.transposed) {
    direct::to_coarse(g, dy, weights.values, dx);
  } else {
    direct::to_fine(g, dy, weights.values, dx);
  }
}

void conv_backward_weights(const ConvGeometry& g, const Tensor& x, const Tensor& dy, Tensor& dw) {
  if (g.dilation > 1) return dilated::conv_backward_weights(g, x, dy, dw);
  if (!x.device().is_cuda()) return reference::conv_backward_weights(g, x, dy, dw);
  direct::to_weights(g, g.transposed ? dy : x, g.transposed ? x : dy, dw);
}

}  // namespace semivox::kernels
