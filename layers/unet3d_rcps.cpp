#include "layers/unet3d_rcps.hpp"

#include "layers/resize.hpp"

namespace semivox {

namespace {

using kernels::Interpolation;

BlockOptions padded_convolution(int64_t in_channels, int64_t out_channels, int64_t kernel, int64_t stride) {
  kernels::ConvGeometry geometry = same_conv(in_channels, out_channels, kernel);
  geometry.stride = {stride, stride, stride};
  return {.geometry = geometry, .norm = kernels::Norm::batch, .bias = false};
}

Parameter& declare_slope(ParameterSet& set, const std::string& name) {
  return set.declare(name + ".weight", {1}, Initializer::constant(0.25));
}

}  // namespace

ResidualUnit::ResidualUnit(ParameterSet& set, const std::string& name, int64_t in_channels,
                           int64_t out_channels, int64_t stride) {
  // PyTorch's module lists the slopes before the convolutions that they follow.
  Parameter& last_slope = declare_slope(set, name + ".act");
  Parameter& inner_slope = declare_slope(set, name + ".conv1.act");
  BlockOptions first = padded_convolution(in_channels, out_channels, 3, stride);
  first.shared_slope = &inner_slope;
  BlockOptions second = padded_convolution(out_channels, out_channels, 3, 1);
  second.shared_slope = &last_slope;
  convolutions_.emplace_back(set, name + ".conv1.conv", name + ".conv1.norm", first);
  convolutions_.emplace_back(set, name + ".conv2.conv", name + ".conv2.norm", second);
  if (stride == 1 && in_channels == out_channels) return;
  BlockOptions shortcut = padded_convolution(in_channels, out_channels, 1, stride);
  shortcut.slope = 1.0;
  shortcut_.emplace_back(set, name + ".id.conv", name + ".id.norm", shortcut);
}

Variable ResidualUnit::operator()(const Variable& x, const Pass& pass) const {
  const Variable skip = shortcut_.empty() ? x : shortcut_[0](x, pass);
  return convolutions_[1](convolutions_[0](x, pass), pass, 0.0, skip, kernels::Skip::before);
}

UNet3DRCPS::UNet3DRCPS(const NetworkOptions& options) : Network(options) {
  require_norm(options, "batchnorm");
  if (options.dropout != 0)
    throw UsageError(text("dropout: found ", options.dropout, ", expected 0 for ", options.name));
  const int64_t f = options.filters;
  for (int level = 0; level < 5; ++level)
    encoder_.emplace_back(parameters_, text("backbone.conv", level, "_0"),
                          level == 0 ? options.in_channels : f << (level - 1), f << level,
                          level == 0 ? 1 : 2);
  for (int level = 3; level >= 0; --level)
    decoder_.emplace_back(parameters_, text("conv", level, "_", 4 - level), 3 * (f << level), f << level, 1);
  for (int level = 3; level >= 0; --level)
    heads_.push_back(
        declare_conv(parameters_, text("convds", level), same_conv(f << level, options.classes, 1)));
  const ConvLayer first = declare_conv(parameters_, "projector.0", same_conv(4 * f, 4 * f, 1));
  projector_.emplace_back(first, declare_slope(parameters_, "projector.1"));
  projection_ = declare_conv(parameters_, "projector.2", same_conv(4 * f, 64, 1));
}

std::vector<Variable> UNet3DRCPS::decode(const Variable& x, const Pass& pass) const {
  std::vector<Variable> levels;
  for (size_t level = 0; level < 5; ++level)
    levels.push_back(encoder_[level](level == 0 ? x : levels.back(), pass));
  Variable h = levels.back();
  levels.pop_back();
  for (size_t step = 0; step < 4; ++step) {  // each level's place is taken by its decoder's output
    Variable& level = levels[3 - step];
    h = decoder_[step](concat_channels(level, upsample(h, 2, Interpolation::linear)), pass);
    level = h;
  }
  return levels;
}

Variable UNet3DRCPS::run(const Variable& x, const Pass& pass) {
  return conv(decode(x, pass)[0], heads_[3], true);
}

NetworkOutput UNet3DRCPS::run_all(const Variable& x, const Pass& pass) {
  const std::vector<Variable> levels = decode(x, pass);
  NetworkOutput output;
  output.logits = conv(levels[0], heads_[3], true);
  for (size_t level = 1; level < 4; ++level) {
    const Variable logits = conv(levels[level], heads_[3 - level], true);
    output.auxiliary.push_back(upsample(logits, int64_t{1} << level, Interpolation::linear));
  }
  output.features = conv(projector_[0](levels[2], pass), projection_);
  return output;
}

}  // namespace semivox
