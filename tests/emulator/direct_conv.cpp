// Convolutions of the emulated build, without a library: on the device by the kernels of
// kernels/conv_direct.cu, which cuDNN's callers fall back on as well, on the CPU by the plain loops.
#include "kernels/conv_direct.hpp"

namespace semivox::kernels {

namespace cudnn {

void conv_forward(const ConvGeometry& g, const Tensor& x, const ConvWeights& weights, const Tensor& bias,
                  Tensor& y) {
  if (g.transposed) {
    direct::to_fine(g, x, weights.values, y);
  } else {
    direct::to_coarse(g, x, weights.values, y);
  }
  if (bias.defined()) direct::add_bias(y, bias);
}

void conv_backward_data(const ConvGeometry& g, const Tensor& dy, const ConvWeights& weights, Tensor& dx) {
  if (g.transposed) {
    direct::to_coarse(g, dy, weights.values, dx);
  } else {
    direct::to_fine(g, dy, weights.values, dx);
  }
}

void conv_backward_weights(const ConvGeometry& g, const Tensor& x, const Tensor& dy, Tensor& dw) {
  direct::to_weights(g, g.transposed ? dy : x, g.transposed ? x : dy, dw);
}

}  // namespace cudnn

namespace onednn {

void conv_forward(const ConvGeometry& g, const Tensor& x, const ConvWeights& weights, const Tensor& bias,
                  Tensor& y) {
  reference::conv_forward(g, x, weights, bias, y);
}

void conv_backward_data(const ConvGeometry& g, const Tensor& dy, const ConvWeights& weights, Tensor& dx) {
  reference::conv_backward_data(g, dy, weights, dx);
}

void conv_backward_weights(const ConvGeometry& g, const Tensor& x, const Tensor& dy, Tensor& dw) {
  reference::conv_backward_weights(g, x, dy, dw);
}

}  // namespace onednn

}  // namespace semivox::kernels
