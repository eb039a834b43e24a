// Convolutions on the CPU by oneDNN, in f32 and bf16.
//
// Formats, chosen by measurement: channels-last throughout, except f32 layers with 16 channels on both sides,
// whose tensors are described as blocks of 16 channels (the same bytes), which is faster. Strided layers
// without overlap go to conv_patches.cpp. Where the library has nothing but its reference implementation,
// bf16 is computed in f32 and f32 by the plain loops.

#include <bit>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "engine/parallel.hpp"
#include "kernels/conv_amx.hpp"
#include "kernels/conv_grids.hpp"
#include "kernels/conv_packed.hpp"
#include "kernels/conv_patches.hpp"
#include "kernels/norm.hpp"
#include "kernels/onednn_primitives.hpp"

namespace semivox::kernels::onednn {

namespace {

using dnnl::memory;

/// A convolution primitive with the formats of its activations and the type of its weights.
struct Convolution {
  MemoryDesc fine, coarse, bias;
  DType weights_dtype;
  Primitive primitive;
};

MemoryDesc activation_desc(const Shape& s, DType dtype, memory::format_tag tag) {
  return {{s.n, s.c, s.d, s.h, s.w}, data_type(dtype), tag};
}

MemoryDesc plain_weights_desc(const ConvGeometry& g, const Shape& fine, const Shape& coarse) {
  return {{coarse.c, fine.c, g.kernel[0], g.kernel[1], g.kernel[2]},
          memory::data_type::f32,
          memory::format_tag::oidhw};
}

/// Geometries that oneDNN's bf16 kernels compute wrongly, reading outside their operands (seen in 2.6): taps
/// that skip voxels, and strided weight gradients on at most two coarse planes.
bool broken_in_bf16(Pass pass, const ConvGeometry& g, const Tensor& coarse) {
  for (size_t axis = 0; axis < 3; ++axis) {
    if (g.kernel[axis] < g.stride[axis]) return true;
  }
  return pass == Pass::weights && g.stride[0] > 1 && coarse.shape().d <= 2;
}

/// The primitive for these tensors, null when the library has no sound and fast one; made at the first call
/// with such shapes and types.
const Convolution* convolution(Pass pass, const ConvGeometry& g, const Tensor& fine, const Tensor& coarse,
                               DType weights_dtype, bool bias, Activation activation) {
  if (weights_dtype == DType::bf16 && broken_in_bf16(pass, g, coarse)) return nullptr;
  static std::map<std::vector<int64_t>, std::optional<Convolution>> convolutions;
  static std::mutex mutex;
  const Shape f = fine.shape(), c = coarse.shape();
  std::vector<int64_t> key{static_cast<int64_t>(pass), bias, thread_count(),
                           static_cast<int64_t>(weights_dtype),
                           activation ? std::bit_cast<int32_t>(*activation) : int64_t{-1}};
  for (const Tensor* t : {&fine, &coarse}) {
    const Shape& s = t->shape();
    key.insert(key.end(), {static_cast<int64_t>(t->dtype()), s.n, s.c, s.d, s.h, s.w});
  }
  for (const auto& three : {g.kernel, g.stride, g.padding}) key.insert(key.end(), three.begin(), three.end());

  const std::lock_guard lock(mutex);
  const auto [entry, fresh] = convolutions.try_emplace(key);
  std::optional<Convolution>& made = entry->second;
  if (!fresh) return made ? &*made : nullptr;
  ConvolutionDescs descs;
  if (bias) descs.bias = MemoryDesc({c.c}, memory::data_type::f32, memory::format_tag::a);
  descs.weights_type = data_type(weights_dtype);
  descs.weights = {c.c, f.c, g.kernel[0], g.kernel[1], g.kernel[2]};
  descs.stride.assign(g.stride.begin(), g.stride.end());
  descs.padding.assign(g.padding.begin(), g.padding.end());
  descs.activation = activation;
  const bool sixteen = fine.dtype() == DType::f32 && coarse.dtype() == DType::f32 && f.c == 16 && c.c == 16;
  for (const auto tag : {memory::format_tag::nCdhw16c, memory::format_tag::ndhwc}) {
    if (tag == memory::format_tag::nCdhw16c && !sixteen) continue;
    descs.fine = activation_desc(f, fine.dtype(), tag);
    descs.coarse = activation_desc(c, coarse.dtype(), tag);
    if (auto primitive = make_convolution(pass, descs)) {
      made = Convolution{descs.fine, descs.coarse, descs.bias, weights_dtype, std::move(*primitive)};
      return &*made;
    }
  }
  return nullptr;
}

/// The weights (coarse, fine, taps) in bf16 as (inputs, outputs, taps) of a convolution from fine to coarse
/// or, turned, from coarse to fine with the taps in reverse order. The library packs them from this order
/// four to six times as fast as from the first.
Tensor weights_by_input(const Tensor& values, int64_t coarse, int64_t fine, int64_t taps, bool turned) {
  Tensor ordered = Tensor::empty({1, coarse * fine * taps, 1, 1, 1}, DType::bf16, {}, MemoryTag::workspace);
  const float* from = values.data<float>();
  bf16* to = ordered.data<bf16>();
  parallel_blocks(fine, 16, [&](int64_t begin, int64_t end) {
    for (int64_t c = 0; c < coarse; ++c) {
      for (int64_t f = begin; f < end; ++f) {
        const float* row = from + (c * fine + f) * taps;
        if (turned) {
          for (int64_t t = 0; t < taps; ++t) to[(c * fine + f) * taps + t] = row[taps - 1 - t];
        } else {
          for (int64_t t = 0; t < taps; ++t) to[(f * coarse + c) * taps + t] = row[t];
        }
      }
    }
  });
  return ordered;
}

/// The weights as `c`, a convolution between fine and coarse or, turned, from coarse to fine, wants them.
memory packed_for(const Convolution& c, const ConvGeometry& g, const ConvWeights& weights, const Shape& fine,
                  const Shape& coarse, bool turned = false) {
  return packed_weights(weights, c.primitive.weights, turned, [&](const memory& packed) {
    if (c.weights_dtype != DType::bf16) {
      return reorder(as_memory(plain_weights_desc(g, fine, coarse), weights.values.raw()), packed);
    }
    const Tensor ordered = weights_by_input(weights.values, coarse.c, fine.c, tap_count(g), turned);
    const int64_t outputs = turned ? fine.c : coarse.c, inputs = turned ? coarse.c : fine.c;
    const MemoryDesc desc({outputs, inputs, g.kernel[0], g.kernel[1], g.kernel[2]}, memory::data_type::bf16,
                          memory::format_tag::iodhw);
    reorder(as_memory(desc, ordered.raw()), packed);
  });
}

/// `tensor = converted`, in the dtype of `tensor`.
void assign(Tensor& tensor, const Tensor& converted) {
  const MemoryDesc from({tensor.elements()}, data_type(converted.dtype()), memory::format_tag::a);
  const MemoryDesc to({tensor.elements()}, data_type(tensor.dtype()), memory::format_tag::a);
  reorder(as_memory(from, converted.raw()), as_memory(to, tensor.raw()));
}

/// The same values as another dtype; the tensor itself when it has that dtype.
Tensor as_dtype(const Tensor& tensor, DType dtype) {
  if (tensor.dtype() == dtype) return tensor;
  Tensor converted = Tensor::empty(tensor.shape(), dtype, {}, MemoryTag::workspace);
  assign(converted, tensor);
  return converted;
}

/// The layer whose forward pass is `to_coarse` or, transposed, `to_fine`: for the plain loops.
ConvGeometry layer(const ConvGeometry& g, const Tensor& fine, const Tensor& coarse, bool transposed) {
  ConvGeometry of = g;
  of.in_channels = (transposed ? coarse : fine).shape().c;
  of.out_channels = (transposed ? fine : coarse).shape().c;
  of.transposed = transposed;
  return of;
}

bool all_f32(const Tensor& a, const Tensor& b) { return a.dtype() == DType::f32 && b.dtype() == DType::f32; }

void to_coarse(const ConvGeometry& g, const Tensor& fine, const ConvWeights& weights, const Tensor& bias,
               Activation activation, Tensor& coarse) {
  if (is_patchwise(g) && has_products(fine.dtype())) {
    return patches_to_coarse(g, fine, weights, bias, activation, coarse);
  }
  const Convolution* c =
      convolution(Pass::to_coarse, g, fine, coarse, fine.dtype(), bias.defined(), activation);
  if (!c && activation) {
    to_coarse(g, fine, weights, bias, {}, coarse);
    return activate(coarse, {}, *activation, {});
  }
  if (!c && all_f32(fine, coarse)) {
    return reference::conv_forward(layer(g, fine, coarse, false), fine, weights, bias, coarse);
  }
  if (!c) {
    Tensor result = Tensor::empty(coarse.shape(), DType::f32, {}, MemoryTag::workspace);
    to_coarse(g, as_dtype(fine, DType::f32), weights, bias, {}, result);
    return assign(coarse, result);
  }
  Arguments arguments{{DNNL_ARG_SRC, as_memory(c->fine, fine.raw())},
                      {DNNL_ARG_WEIGHTS, packed_for(*c, g, weights, fine.shape(), coarse.shape())},
                      {DNNL_ARG_DST, as_memory(c->coarse, coarse.raw())}};
  if (bias.defined()) arguments.insert({DNNL_ARG_BIAS, as_memory(c->bias, bias.raw())});
  c->primitive.run(arguments);
}

/// True when the gradient of the input is better computed as a convolution with turned weights: the library's
/// bf16 forward kernels are 1.3 to 3 times as fast as its backward ones.
bool better_turned(const ConvGeometry& g, const Tensor& fine) {
  for (size_t axis = 0; axis < 3; ++axis) {
    if (g.stride[axis] != 1 || 2 * g.padding[axis] != g.kernel[axis] - 1) return false;
  }
  return fine.dtype() == DType::bf16 && tap_count(g) > 1;
}

/// fine = gradient of the input, as a convolution of `coarse`. False when the library has none for it.
bool to_fine_by_turned_weights(const ConvGeometry& g, const Tensor& coarse, const ConvWeights& weights,
                               Tensor& fine) {
  const Convolution* c = convolution(Pass::to_coarse, g, coarse, fine, DType::bf16, false, {});
  if (!c) return false;
  c->primitive.run({{DNNL_ARG_SRC, as_memory(c->fine, coarse.raw())},
                    {DNNL_ARG_WEIGHTS, packed_for(*c, g, weights, fine.shape(), coarse.shape(), true)},
                    {DNNL_ARG_DST, as_memory(c->coarse, fine.raw())}});
  return true;
}

void to_fine(const ConvGeometry& g, const Tensor& coarse, const ConvWeights& weights, const Tensor& bias,
             Activation activation, Tensor& fine) {
  if (is_patchwise(g) && has_products(fine.dtype())) {
    return patches_to_fine(g, coarse, weights, bias, activation, fine);
  }
  if (activation) {
    to_fine(g, coarse, weights, bias, {}, fine);
    return activate(fine, {}, *activation, {});
  }
  if (better_turned(g, fine) && !bias.defined() && to_fine_by_turned_weights(g, coarse, weights, fine))
    return;
  const Convolution* c = convolution(Pass::to_fine, g, fine, coarse, coarse.dtype(), false, {});
  if (!c && all_f32(fine, coarse)) {
    return reference::conv_forward(layer(g, fine, coarse, true), coarse, weights, bias, fine);
  }
  if (!c) {
    Tensor result = Tensor::empty(fine.shape(), DType::f32, {}, MemoryTag::workspace);
    to_fine(g, as_dtype(coarse, DType::f32), weights, bias, {}, result);
    return assign(fine, result);
  }
  c->primitive.run({{DNNL_ARG_DIFF_DST, as_memory(c->coarse, coarse.raw())},
                    {DNNL_ARG_WEIGHTS, packed_for(*c, g, weights, fine.shape(), coarse.shape())},
                    {DNNL_ARG_DIFF_SRC, as_memory(c->fine, fine.raw())}});
  if (bias.defined()) activate(fine, bias, 1, {});
}

void to_weights(const ConvGeometry& g, const Tensor& fine, const Tensor& coarse, Tensor& dw) {
  if (is_patchwise(g) && has_products(fine.dtype())) return patches_to_weights(g, fine, coarse, dw);
  if (fine.dtype() == DType::bf16 && g.stride == std::array<int64_t, 3>{1, 1, 1} && amx::available()) {
    return amx::add_weight_gradient(g, fine, coarse, dw);
  }
  const Convolution* c = convolution(Pass::weights, g, fine, coarse, fine.dtype(), false, {});
  if (!c && all_f32(fine, coarse)) {
    return reference::conv_backward_weights(layer(g, fine, coarse, false), fine, coarse, dw);
  }
  if (!c) return to_weights(g, as_dtype(fine, DType::f32), as_dtype(coarse, DType::f32), dw);
  const Tensor gradient = Tensor::empty({1, static_cast<int64_t>(c->primitive.weights.get_size()), 1, 1, 1},
                                        DType::u8, {}, MemoryTag::workspace);
  const memory packed = as_memory(c->primitive.weights, gradient.raw());
  c->primitive.run({{DNNL_ARG_SRC, as_memory(c->fine, fine.raw())},
                    {DNNL_ARG_DIFF_DST, as_memory(c->coarse, coarse.raw())},
                    {DNNL_ARG_DIFF_WEIGHTS, packed}});
  reorder(packed, as_memory(plain_weights_desc(g, fine.shape(), coarse.shape()), dw.raw()), true);
}

}  // namespace

void conv_forward(const ConvGeometry& g, const Tensor& x, const ConvWeights& weights, const Tensor& bias,
                  Tensor& y) {
  if (g.transposed) return to_fine(g, x, weights, bias, {}, y);
  to_coarse(g, x, weights, bias, {}, y);
}

void conv_forward_act(const ConvGeometry& g, const Tensor& x, const ConvWeights& weights, const Tensor& bias,
                      double slope, Tensor& y) {
  const auto activation = static_cast<float>(slope);
  if (g.transposed) return to_fine(g, x, weights, bias, activation, y);
  to_coarse(g, x, weights, bias, activation, y);
}

void conv_backward_data(const ConvGeometry& g, const Tensor& dy, const ConvWeights& weights, Tensor& dx) {
  const Tensor gradient = as_dtype(dy, dx.dtype());
  if (g.transposed) return to_coarse(g, gradient, weights, {}, {}, dx);
  to_fine(g, gradient, weights, {}, {}, dx);
}

void conv_backward_weights(const ConvGeometry& g, const Tensor& x, const Tensor& dy, Tensor& dw) {
  const Tensor gradient = as_dtype(dy, x.dtype());
  if (g.transposed) return to_weights(g, gradient, x, dw);
  to_weights(g, x, gradient, dw);
}

}  // namespace semivox::kernels::onednn
