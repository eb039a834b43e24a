// Convolution and transposed convolution, forward and backward, on the CPU (oneDNN, our own, plain loops) and
// the GPU (cuDNN, our own).
//
// Activations are channels-last (N, D, H, W, C). Weights are kept in PyTorch's order, convolution (Co, Ci,
// kD, kH, kW), transposed convolution (Ci, Co, kD, kH, kW), as f32 (f64 in the oracle); each library packs
// them as it likes and keeps the packed copy until the weights' version changes, i.e. packs once per
// optimiser step.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// Geometry of one layer; everything but batch and input size.
struct ConvGeometry {
  int64_t in_channels = 1, out_channels = 1;
  std::array<int64_t, 3> kernel{3, 3, 3};
  std::array<int64_t, 3> stride{1, 1, 1};
  std::array<int64_t, 3> padding{1, 1, 1};
  bool transposed = false;  ///< output size (i - 1) * stride - 2 * padding + kernel
  int64_t dilation = 1;     ///< voxels from tap to tap, along all axes; not of transposed convolutions

  int64_t weight_count() const { return in_channels * out_channels * kernel[0] * kernel[1] * kernel[2]; }
  /// Throws InternalError when `input` has other channels or is too small for the kernel.
  Shape output_shape(const Shape& input) const;
};

/// A library's private packed copies of one layer's weights.
struct PackedWeights {
  virtual ~PackedWeights() = default;
};

/// The weights of one layer: a view into a parameter set, and the packed copies made from it.
struct ConvWeights {
  Tensor values;  ///< weight_count elements, PyTorch order, f32 or f64
  std::shared_ptr<const uint64_t>
      version;  ///< grows with every change of the values; owned by the parameter set
  mutable std::shared_ptr<PackedWeights> packed;
};

/// y = conv(x) + bias. x (N, D, H, W, Ci), y (N, D', H', W', Co) allocated by the caller with `output_shape`;
/// bias has Co elements or is undefined. x is f32, bf16 or f64; y has the dtype of x, or is f32 for bf16 x
/// (the logits layer).
void conv_forward(const ConvGeometry& geometry, const Tensor& x, const ConvWeights& weights,
                  const Tensor& bias, Tensor& y);

/// y = act(conv(x) + bias) [+ skip] in one pass over y where the library can: a block of an evaluation pass.
/// `slope` is the activation's below zero; skip is like y or undefined.
void conv_forward_act(const ConvGeometry& geometry, const Tensor& x, const ConvWeights& weights,
                      const Tensor& bias, double slope, const Tensor& skip, Tensor& y);

/// dx = gradient of the input, overwritten. dy has the dtype of y in `conv_forward`, dx that of x.
void conv_backward_data(const ConvGeometry& geometry, const Tensor& dy, const ConvWeights& weights,
                        Tensor& dx);

/// Adds the weight gradient to `dw` (PyTorch order, f32; f64 in the oracle).
void conv_backward_weights(const ConvGeometry& geometry, const Tensor& x, const Tensor& dy, Tensor& dw);

// The variants behind the four functions above. The plain loops are the specification and take f32 and f64
// on the CPU; f64 always goes to them. Each variant's functions take the same arguments as the functions
// above.

namespace reference {
void conv_forward(const ConvGeometry&, const Tensor& x, const ConvWeights&, const Tensor& bias, Tensor& y);
void conv_backward_data(const ConvGeometry&, const Tensor& dy, const ConvWeights&, Tensor& dx);
void conv_backward_weights(const ConvGeometry&, const Tensor& x, const Tensor& dy, Tensor& dw);
}  // namespace reference

namespace onednn {
void conv_forward(const ConvGeometry&, const Tensor& x, const ConvWeights&, const Tensor& bias, Tensor& y);
void conv_forward_act(const ConvGeometry&, const Tensor& x, const ConvWeights&, const Tensor& bias,
                      double slope, Tensor& y);
void conv_backward_data(const ConvGeometry&, const Tensor& dy, const ConvWeights&, Tensor& dx);
void conv_backward_weights(const ConvGeometry&, const Tensor& x, const Tensor& dy, Tensor& dw);
}  // namespace onednn

/// Layers with dilation > 1 in f32 and bf16, on any device.
namespace dilated {
void conv_forward(const ConvGeometry&, const Tensor& x, const ConvWeights&, const Tensor& bias, Tensor& y);
void conv_backward_data(const ConvGeometry&, const Tensor& dy, const ConvWeights&, Tensor& dx);
void conv_backward_weights(const ConvGeometry&, const Tensor& x, const Tensor& dy, Tensor& dw);
}  // namespace dilated

#ifdef SEMIVOX_CUDA
namespace cudnn {
void conv_forward(const ConvGeometry&, const Tensor& x, const ConvWeights&, const Tensor& bias, Tensor& y);
void conv_backward_data(const ConvGeometry&, const Tensor& dy, const ConvWeights&, Tensor& dx);
void conv_backward_weights(const ConvGeometry&, const Tensor& x, const Tensor& dy, Tensor& dw);
}  // namespace cudnn
#endif

}  // namespace semivox::kernels
