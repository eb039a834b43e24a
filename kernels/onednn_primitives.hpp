// What convolutions need from oneDNN, behind functions that hide the difference between its versions 2 and 3.
//
// Primitives are made once and kept by the caller; memory is always ours: activations and scratch come from
// tensors.
#pragma once

#include <dnnl.hpp>
#include <optional>
#include <unordered_map>

#include "engine/tensor.hpp"

namespace semivox::kernels::onednn {

using MemoryDesc = dnnl::memory::desc;
using Arguments = std::unordered_map<int, dnnl::memory>;

/// The CPU as oneDNN sees it, and our dtypes by its names.
const dnnl::engine& cpu_engine();
dnnl::memory::data_type data_type(DType dtype);

/// The elements at `data`, described by `desc`.
inline dnnl::memory as_memory(const MemoryDesc& desc, void* data) { return {desc, cpu_engine(), data}; }

/// A primitive with the formats that it chose, and the scratch memory that each concurrent call needs.
struct Primitive {
  dnnl::primitive primitive;
  MemoryDesc weights;  ///< of the second operand: packed weights, or the weight gradient
  MemoryDesc scratchpad;

  /// Runs with scratch memory at `scratch` (scratchpad.get_size() bytes).
  void run(Arguments arguments, void* scratch) const;

  /// Runs with scratch memory of its own.
  void run(const Arguments& arguments) const;
};

/// The three operations of kernels/conv_grids.hpp.
enum class Pass { to_coarse, to_fine, weights };

/// The slope below zero of a (leaky) ReLU that a forward primitive applies to its result; none: no
/// activation.
using Activation = std::optional<float>;

struct ConvolutionDescs {
  MemoryDesc fine, coarse, bias;  ///< no bias: default
  dnnl::memory::data_type weights_type;
  dnnl::memory::dims weights;  ///< coarse channels, fine channels, kD, kH, kW
  dnnl::memory::dims stride, padding;
  Activation activation;  ///< of Pass::to_coarse
};

// Both give none where the library has no implementation, or only its reference, up to a thousand times
// slower.

/// Convolution, its gradient of the input or of the weights (f32).
std::optional<Primitive> make_convolution(Pass pass, const ConvolutionDescs& descs);

/// c = act(a * b + bias) (no bias: default), or c += a * b when `accumulate`. To be run inside a parallel
/// region, by one thread.
std::optional<Primitive> make_matmul(const MemoryDesc& a, const MemoryDesc& b, const MemoryDesc& c,
                                     const MemoryDesc& bias, Activation activation, bool accumulate);

/// Copies between formats and dtypes; adds to the destination when `accumulate`.
void reorder(const dnnl::memory& from, const dnnl::memory& to, bool accumulate = false);

}  // namespace semivox::kernels::onednn
