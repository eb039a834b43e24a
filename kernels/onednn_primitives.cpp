#include "kernels/onednn_primitives.hpp"

#include <string>

#include "engine/parallel.hpp"

namespace semivox::kernels::onednn {

using dnnl::memory;

namespace {

void append_activation(dnnl::post_ops& after, float slope);

dnnl::primitive_attr attributes(Activation activation, bool accumulate) {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  dnnl::post_ops after;
  if (accumulate) after.append_sum(1.0f);
  if (activation) append_activation(after, *activation);
  attr.set_post_ops(after);
  return attr;
}

// The only code that differs between oneDNN 2 (operation descriptors) and oneDNN 3 (none).

constexpr auto kDirect = dnnl::algorithm::convolution_direct;

#if DNNL_VERSION_MAJOR >= 3

void append_activation(dnnl::post_ops& after, float slope) {
  after.append_eltwise(dnnl::algorithm::eltwise_relu, slope, 0.0f);
}

dnnl::convolution_forward::primitive_desc forward(const ConvolutionDescs& c, const MemoryDesc& weights) {
  return {cpu_engine(),
          dnnl::prop_kind::forward_training,
          kDirect,
          c.fine,
          weights,
          c.bias,
          c.coarse,
          c.stride,
          c.padding,
          c.padding,
          attributes(c.activation, false)};
}

dnnl::convolution_backward_data::primitive_desc backward_data(const ConvolutionDescs& c,
                                                              const MemoryDesc& weights) {
  return {cpu_engine(),
          kDirect,
          c.fine,
          weights,
          c.coarse,
          c.stride,
          c.padding,
          c.padding,
          forward(c, weights),
          attributes({}, false)};
}

dnnl::convolution_backward_weights::primitive_desc backward_weights(const ConvolutionDescs& c,
                                                                    const MemoryDesc& weights,
                                                                    const MemoryDesc& gradient) {
  return {cpu_engine(),
          kDirect,
          c.fine,
          gradient,
          c.coarse,
          c.stride,
          c.padding,
          c.padding,
          forward(c, weights),
          attributes({}, false)};
}

dnnl::matmul::primitive_desc matmul(const MemoryDesc& a, const MemoryDesc& b, const MemoryDesc& bias,
                                    const MemoryDesc& c, Activation activation, bool accumulate) {
  return {cpu_engine(), a, b, bias, c, attributes(activation, accumulate)};
}

#else

void append_activation(dnnl::post_ops& after, float slope) {
  after.append_eltwise(1.0f, dnnl::algorithm::eltwise_relu, slope, 0.0f);
}

dnnl::convolution_forward::primitive_desc forward(const ConvolutionDescs& c, const MemoryDesc& weights) {
  return {{dnnl::prop_kind::forward_training, kDirect, c.fine, weights, c.bias, c.coarse, c.stride, c.padding,
           c.padding},
          attributes(c.activation, false),
          cpu_engine()};
}

dnnl::convolution_backward_data::primitive_desc backward_data(const ConvolutionDescs& c,
                                                              const MemoryDesc& weights) {
  return {{kDirect, c.fine, weights, c.coarse, c.stride, c.padding, c.padding},
          attributes({}, false),
          cpu_engine(),
          forward(c, weights)};
}

dnnl::convolution_backward_weights::primitive_desc backward_weights(const ConvolutionDescs& c,
                                                                    const MemoryDesc& weights,
                                                                    const MemoryDesc& gradient) {
  return {{kDirect, c.fine, gradient, c.coarse, c.stride, c.padding, c.padding},
          attributes({}, false),
          cpu_engine(),
          forward(c, weights)};
}

dnnl::matmul::primitive_desc matmul(const MemoryDesc& a, const MemoryDesc& b, const MemoryDesc& bias,
                                    const MemoryDesc& c, Activation activation, bool accumulate) {
  return {{a, b, bias, c}, attributes(activation, accumulate), cpu_engine()};
}

#endif

/// The primitive, none when it is the library's reference implementation.
template <class Desc>
std::optional<Primitive> usable(Primitive primitive, const Desc& desc) {
  if (std::string(desc.impl_info_str()).rfind("ref", 0) == 0) return std::nullopt;
  return primitive;
}

/// None when the library has no implementation for this processor, an error for every other cause.
std::optional<Primitive> unless_unimplemented(const dnnl::error& error) {
  if (error.status != dnnl_unimplemented) throw InternalError(text("oneDNN: ", error.what()));
  return std::nullopt;
}

const dnnl::stream& cpu_stream() {
  thread_local const dnnl::stream stream(cpu_engine());
  return stream;
}

/// Makes oneDNN plan for one thread while it lives: for primitives that run inside a parallel region.
class OneThread {
 public:
  OneThread() : threads_(thread_count()) { set_thread_count(1); }
  ~OneThread() { set_thread_count(threads_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int threads_;
};

}  // namespace

const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

memory::data_type data_type(DType dtype) {
  SEMIVOX_CHECK(dtype == DType::f32 || dtype == DType::bf16, "oneDNN convolutions take f32 and bf16, found ",
                name_of(dtype));
  return dtype == DType::f32 ? memory::data_type::f32 : memory::data_type::bf16;
}

void Primitive::run(Arguments arguments, void* scratch) const {
  arguments.insert({DNNL_ARG_SCRATCHPAD, as_memory(scratchpad, scratch)});
  primitive.execute(cpu_stream(), arguments);
}

void Primitive::run(const Arguments& arguments) const {
  const Tensor scratch = Tensor::empty({1, static_cast<int64_t>(scratchpad.get_size()), 1, 1, 1}, DType::u8,
                                       {}, MemoryTag::workspace);
  run(arguments, scratch.raw());
}

std::optional<Primitive> make_convolution(Pass pass, const ConvolutionDescs& c) try {
  const MemoryDesc weights(c.weights, c.weights_type, memory::format_tag::any);
  switch (pass) {
    case Pass::to_coarse: {
      const auto desc = forward(c, weights);
      return usable({dnnl::convolution_forward(desc), desc.weights_desc(), desc.scratchpad_desc()}, desc);
    }
    case Pass::to_fine: {
      const auto desc = backward_data(c, weights);
      return usable({dnnl::convolution_backward_data(desc), desc.weights_desc(), desc.scratchpad_desc()},
                    desc);
    }
    case Pass::weights: {
      const MemoryDesc gradient(c.weights, memory::data_type::f32, memory::format_tag::any);
      const auto desc = backward_weights(c, weights, gradient);
      return usable(
          {dnnl::convolution_backward_weights(desc), desc.diff_weights_desc(), desc.scratchpad_desc()}, desc);
    }
  }
  throw InternalError("unknown pass");
} catch (const dnnl::error& error) {
  return unless_unimplemented(error);
}

std::optional<Primitive> make_matmul(const MemoryDesc& a, const MemoryDesc& b, const MemoryDesc& c,
                                     const MemoryDesc& bias, Activation activation, bool accumulate) try {
  const OneThread plan;
  const auto desc = matmul(a, b, bias, c, activation, accumulate);
  return usable({dnnl::matmul(desc), desc.weights_desc(), desc.scratchpad_desc()}, desc);
} catch (const dnnl::error& error) {
  return unless_unimplemented(error);
}

void reorder(const dnnl::memory& from, const dnnl::memory& to, bool accumulate) {
  dnnl::primitive_attr attr;
  if (accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attr.set_post_ops(sum);
  }
  const dnnl::reorder::primitive_desc desc(from, to, attr);
  dnnl::reorder(desc).execute(cpu_stream(), {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
}

}  // namespace semivox::kernels::onednn
