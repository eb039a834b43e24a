#include "layers/resvnet.hpp"

namespace semivox {

namespace {

BlockOptions convolution(int64_t in_channels, int64_t out_channels, int64_t kernel, int64_t stride,
                         double slope = 0.0) {
  kernels::ConvGeometry geometry = same_conv(in_channels, out_channels, kernel);
  geometry.stride = {stride, stride, stride};
  return {.geometry = geometry, .norm = kernels::Norm::batch, .slope = slope, .bias = false};
}

}  // namespace

BasicBlock::BasicBlock(ParameterSet& set, const std::string& name, int64_t in_channels, int64_t out_channels,
                       int64_t stride) {
  convolutions_.emplace_back(set, name + ".conv1", name + ".bn1",
                             convolution(in_channels, out_channels, 3, stride));
  convolutions_.emplace_back(set, name + ".conv2", name + ".bn2",
                             convolution(out_channels, out_channels, 3, 1));
  if (stride == 1 && in_channels == out_channels) return;
  shortcut_.emplace_back(set, name + ".downsample.0", name + ".downsample.1",
                         convolution(in_channels, out_channels, 1, stride, 1.0));
}

Variable BasicBlock::operator()(const Variable& x, const Pass& pass) const {
  const Variable skip = shortcut_.empty() ? x : shortcut_[0](x, pass);
  return convolutions_[1](convolutions_[0](x, pass), pass, 0.0, skip, kernels::Skip::before);
}

ResNetEncoder::ResNetEncoder(ParameterSet& set, const std::string& prefix, const NetworkOptions& options)
    : stem_(set, prefix + "conv1", prefix + "bn1", convolution(options.in_channels, options.filters, 7, 1)) {
  static constexpr int counts[] = {3, 4, 6, 3};
  require_norm(options, "batchnorm");
  for (int layer = 0; layer < 4; ++layer) {
    const int64_t width = options.filters << (layer + 1);
    layers_.emplace_back();
    for (int i = 0; i < counts[layer]; ++i)
      layers_.back().emplace_back(set, text(prefix, "layer", layer + 1, ".", i), i == 0 ? width / 2 : width,
                                  width, i == 0 ? 2 : 1);
  }
}

std::vector<Variable> ResNetEncoder::operator()(const Variable& x, const Pass& pass) const {
  std::vector<Variable> levels{stem_(x, pass)};
  for (const std::deque<BasicBlock>& layer : layers_) {
    Variable h = levels.back();
    for (const BasicBlock& block : layer) h = block(h, pass);
    levels.push_back(h);
  }
  return levels;
}

ResVNet::ResVNet(const NetworkOptions& options)
    : Network(options),
      encoder_(parameters_, "", options),
      decoder_(parameters_, "", options),
      out_conv_(declare_conv(parameters_, "out_conv", same_conv(options.filters, options.classes, 1))) {
  use_kaiming_normal(parameters_);
}

Variable ResVNet::run(const Variable& x, const Pass& pass) {
  return conv(decoder_(encoder_(x, pass), pass, options_.dropout), out_conv_, true);
}

}  // namespace semivox
