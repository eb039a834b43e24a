#include "layers/unet3d.hpp"

#include "layers/pointwise.hpp"
#include "layers/resize.hpp"

namespace semivox {

namespace {

using kernels::Interpolation;

constexpr double kASPPDropout = 0.5;

/// `<name>.conv1` and `<name>.conv2`, each a Sequential of convolution, norm and activation.
DoubleConv double_conv(ParameterSet& set, const std::string& name, int64_t in_channels,
                       int64_t out_channels) {
  const auto block = [&](const char* child, int64_t channels) {
    return Block(set, text(name, ".", child, ".0"), text(name, ".", child, ".1"),
                 BlockOptions{same_conv(channels, out_channels, 3), kernels::Norm::instance});
  };
  Block first = block("conv1", in_channels);
  return {std::move(first), block("conv2", out_channels)};
}

ConvLayer declare_head(ParameterSet& set, const std::string& name, const NetworkOptions& options, int level) {
  return declare_conv(set, name, same_conv(options.filters << level, options.classes, 1));
}

/// The decoder of the networks that drop elements of the deepest and of the last feature map.
struct Decoded {
  Variable deepest;       // before its dropout
  Variable center, last;  // the deepest and the last feature map, with dropout
};

Decoded decode(const UNet3DTrunk& trunk, const Variable& x, const Pass& pass, double probability) {
  std::vector<Variable> levels = trunk.encode(x, pass);
  const Variable deepest = levels.back(), center = dropout(deepest, pass, probability);
  Variable h = center;
  levels.pop_back();
  for (; !levels.empty(); levels.pop_back()) h = trunk.up(levels.size() - 1, levels.back(), h, pass);
  return {deepest, center, dropout(h, pass, probability)};
}

}  // namespace

UNet3DTrunk::UNet3DTrunk(ParameterSet& set, const NetworkOptions& options) {
  require_norm(options, "instancenorm");
  for (int level = 0; level < 5; ++level) {
    const int64_t width = options.filters << level;
    encoder_.push_back(double_conv(set, level == 4 ? "center" : text("conv", level + 1),
                                   level == 0 ? options.in_channels : width / 2, width));
  }
  for (int level = 3; level >= 0; --level) {
    const int64_t width = options.filters << level;
    decoder_.push_back(double_conv(set, text("up_concat", level + 1, ".conv"), 3 * width, width));
  }
}

std::vector<Variable> UNet3DTrunk::encode(const Variable& x, const Pass& pass) const {
  std::vector<Variable> levels{encoder_[0](x, pass)};
  for (size_t level = 1; level < 5; ++level)
    levels.push_back(encoder_[level](max_pool(levels.back(), kernels::Grid::volume), pass));
  return levels;
}

Variable UNet3DTrunk::up(size_t level, const Variable& skip, const Variable& below, const Pass& pass,
                         double channel_dropout) const {
  const Variable joined = concat_channels(skip, upsample(below, 2, Interpolation::linear));
  return decoder_[3 - level](joined, pass, 0.0, channel_dropout);
}

UNet3D::UNet3D(const NetworkOptions& options)
    : Network(options), trunk_(parameters_, options), final_(declare_head(parameters_, "final", options, 0)) {
  use_kaiming_normal(parameters_);
}

Variable UNet3D::run(const Variable& x, const Pass& pass) {
  return conv(decode(trunk_, x, pass, options_.dropout).last, final_, true);
}

NetworkOutput UNet3D::run_all(const Variable& x, const Pass& pass) {
  const Decoded decoded = decode(trunk_, x, pass, options_.dropout);
  NetworkOutput output;
  output.logits = conv(decoded.last, final_, true);
  output.features = decoded.deepest;
  return output;
}

UNet3DDeepSupervision::UNet3DDeepSupervision(const NetworkOptions& options)
    : Network(options), trunk_(parameters_, options) {
  for (int level = 3; level >= 0; --level) {
    const std::string name = text("dsv", level + 1, level > 0 ? ".dsv.0" : "");
    heads_.push_back(declare_head(parameters_, name, options, level));
  }
  use_kaiming_normal(parameters_);
}

std::vector<Variable> UNet3DDeepSupervision::decode(const Variable& x, const Pass& pass) const {
  static constexpr double share[] = {0.2, 0.4, 0.6, 1.0};
  std::vector<Variable> levels = trunk_.encode(x, pass);
  Variable h = levels.back();
  levels.pop_back();
  for (size_t level = 4; level-- > 0;) {  // each level's place is taken by its decoder's output
    h = trunk_.up(level, levels[level], h, pass, options_.dropout * share[level]);
    levels[level] = h;
  }
  return levels;
}

Variable UNet3DDeepSupervision::run(const Variable& x, const Pass& pass) {
  return conv(decode(x, pass)[0], heads_[3], true);
}

NetworkOutput UNet3DDeepSupervision::run_all(const Variable& x, const Pass& pass) {
  const std::vector<Variable> levels = decode(x, pass);
  NetworkOutput output;
  output.logits = conv(levels[0], heads_[3], true);
  for (size_t level = 1; level < 4; ++level) {
    const Variable logits = conv(levels[level], heads_[3 - level], true);
    output.auxiliary.push_back(upsample(logits, int64_t{1} << level, Interpolation::linear));
  }
  return output;
}

UNet3DContrast::UNet3DContrast(const NetworkOptions& options, bool with_aspp)
    : Network(options),
      trunk_(parameters_, options),
      distance_(declare_head(parameters_, "final", options, 0)),
      segmentation_(declare_head(parameters_, "out_conv2", options, 0)) {
  const int64_t deepest = options.filters << 4;
  if (with_aspp) aspp_.emplace(parameters_, "aspp", deepest, deepest);
  projection_.emplace_back(
      parameters_, "projection.0", "projection.1",
      BlockOptions{.geometry = same_conv(deepest, 2 * deepest, 1), .norm = kernels::Norm::batch});
  projection_.emplace_back(
      parameters_, "projection.3", "projection.4",
      BlockOptions{
          .geometry = same_conv(2 * deepest, deepest, 1), .norm = kernels::Norm::batch, .slope = 1.0});
  use_kaiming_normal(parameters_);
  use_normal_norms(parameters_, 0.02);
}

Variable UNet3DContrast::run(const Variable& x, const Pass& pass) {
  return conv(decode(trunk_, x, pass, options_.dropout).last, segmentation_, true);
}

NetworkOutput UNet3DContrast::run_all(const Variable& x, const Pass& pass) {
  const Decoded decoded = decode(trunk_, x, pass, options_.dropout);
  NetworkOutput output;
  output.logits = conv(decoded.last, segmentation_, true);
  output.distance = tanh(conv(decoded.last, distance_, true));
  Variable deepest = decoded.center;
  if (aspp_) deepest = (*aspp_)(deepest, pass, options_.dropout > 0 ? kASPPDropout : 0.0);
  const Variable grid = upsample(deepest, 2, Interpolation::linear_aligned);
  output.features = projection_[1](projection_[0](grid, pass), pass);
  return output;
}

}  // namespace semivox
