#include "layers/block.hpp"

#include <cmath>

namespace semivox {

using kernels::ConvGeometry;
using kernels::Norm;

ConvLayer declare_conv(ParameterSet& set, const std::string& name, const ConvGeometry& geometry, int axes,
                       bool bias) {
  const auto& k = geometry.kernel;
  std::vector<int64_t> dims{geometry.out_channels, geometry.in_channels};
  if (geometry.transposed) std::swap(dims[0], dims[1]);
  for (int axis = 0; axis < 3; ++axis) {
    if (axis >= 3 - axes) {
      dims.push_back(k[axis]);
    } else {
      SEMIVOX_CHECK(k[axis] == 1, name, ": kernel ", k[axis], " along an axis that the weight lacks");
    }
  }
  const double fan = static_cast<double>(dims[1] * k[0] * k[1] * k[2]);
  const Initializer uniform = Initializer::uniform(1.0 / std::sqrt(fan));
  ConvLayer layer;
  layer.geometry = geometry;
  layer.weight = &set.declare(name + ".weight", dims, uniform);
  if (bias) layer.bias = &set.declare(name + ".bias", {geometry.out_channels}, uniform);
  layer.set = &set;
  return layer;
}

void use_kaiming_normal(ParameterSet& set) {
  for (Parameter& p : set.parameters()) {
    if (p.dims.size() < 2) continue;
    p.initializer =
        Initializer::normal(std::sqrt(2.0 * static_cast<double>(p.dims[0]) / static_cast<double>(p.count)));
  }
}

void use_normal_norms(ParameterSet& set, double deviation) {
  for (Parameter& p : set.parameters()) {
    const Initializer& first = p.initializer;
    if (p.dims.size() != 1 || first.kind != Initializer::Kind::constant || first.value != 1) continue;
    p.initializer = Initializer::normal(deviation, 1);
  }
}

Block::Block(ParameterSet& set, const std::string& conv_name, const std::string& norm_name,
             const BlockOptions& options)
    : conv_(declare_conv(set, conv_name, options.geometry, options.axes, options.bias)) {
  const int64_t channels = options.geometry.out_channels;
  norm_.norm = options.norm;
  norm_.slope = options.slope;
  norm_.conv_bias = conv_.bias;
  if (options.norm == Norm::batch || options.norm == Norm::group) {
    norm_.gamma = &set.declare(norm_name + ".weight", {channels}, Initializer::constant(1));
    norm_.beta = &set.declare(norm_name + ".bias", {channels}, Initializer::constant(0));
  }
  if (options.norm == Norm::batch) {
    norm_.running_mean = &set.declare_buffer(norm_name + ".running_mean", {channels}, 0);
    norm_.running_variance = &set.declare_buffer(norm_name + ".running_var", {channels}, 1);
    norm_.batches = &set.declare_buffer(norm_name + ".num_batches_tracked", {}, 0, true);
  }
  norm_.prelu_slope = options.shared_slope;
  if (options.prelu)
    norm_.prelu_slope = &set.declare(conv_name + ".slope", {channels}, Initializer::constant(0.25));
}

Block::Block(ConvLayer convolution, Parameter& shared_slope) : conv_(std::move(convolution)) {
  norm_.conv_bias = conv_.bias;
  norm_.prelu_slope = &shared_slope;
}

Variable Block::operator()(const Variable& x, const Pass& pass, double dropout, const Variable& skip,
                           kernels::Skip mode) const {
  kernels::NormCall call;
  call.batch_statistics = pass.training;
  call.skip_mode = mode;
  if (pass.training && dropout > 0) {
    SEMIVOX_CHECK(pass.random != nullptr, "a training pass with dropout needs random numbers");
    call.dropout = dropout;
    call.random = pass.random->next();
  }
  return conv_norm_act(x, conv_, norm_, call, skip);
}

ConvGeometry same_conv(int64_t in_channels, int64_t out_channels, int64_t kernel) {
  const int64_t pad = kernel / 2;
  return {in_channels, out_channels, {kernel, kernel, kernel}, {1, 1, 1}, {pad, pad, pad}, false};
}

ConvGeometry down_conv(int64_t in_channels, int64_t out_channels) {
  return {in_channels, out_channels, {2, 2, 2}, {2, 2, 2}, {0, 0, 0}, false};
}

ConvGeometry up_conv(int64_t in_channels, int64_t out_channels) {
  return {in_channels, out_channels, {2, 2, 2}, {2, 2, 2}, {0, 0, 0}, true};
}

}  // namespace semivox
