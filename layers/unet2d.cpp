#include "layers/unet2d.hpp"

#include "layers/resize.hpp"

namespace semivox {

namespace {

constexpr double kSlope = 0.01;
constexpr double kDropoutShare[] = {0.1, 0.2, 0.4, 0.6, 1.0};

/// PyTorch counts convolution, norm, activation and dropout as children of a Sequential named `conv_conv`.
DoubleConv conv_block(ParameterSet& set, const std::string& name, int64_t in_channels, int64_t out_channels) {
  const auto block = [&](int64_t channels, int child) {
    return Block(set, text(name, ".conv_conv.", child), text(name, ".conv_conv.", child + 1),
                 BlockOptions{.geometry = same_conv_2d(channels, out_channels, 3),
                              .norm = kernels::Norm::batch,
                              .slope = kSlope,
                              .axes = 2});
  };
  Block first = block(in_channels, 0);
  return {std::move(first), block(out_channels, 4)};
}

}  // namespace

kernels::ConvGeometry same_conv_2d(int64_t in_channels, int64_t out_channels, int64_t kernel) {
  const int64_t pad = kernel / 2;
  return {in_channels, out_channels, {1, kernel, kernel}, {1, 1, 1}, {0, pad, pad}, false};
}

UNet2DEncoder::UNet2DEncoder(ParameterSet& set, const std::string& prefix, const NetworkOptions& options) {
  require_norm(options, "batchnorm");
  for (int level = 0; level < 5; ++level) {
    const int64_t width = options.filters << level;
    const std::string name = level == 0 ? "in_conv" : text("down", level, ".maxpool_conv.1");
    levels_.push_back(conv_block(set, prefix + name, level == 0 ? options.in_channels : width / 2, width));
  }
}

std::vector<Variable> UNet2DEncoder::operator()(const Variable& x, const Pass& pass, double dropout) const {
  std::vector<Variable> features;
  for (size_t level = 0; level < 5; ++level) {
    const Variable h = level == 0 ? x : max_pool(features.back(), kernels::Grid::slice);
    features.push_back(levels_[level](h, pass, dropout * kDropoutShare[level]));
  }
  return features;
}

UNet2DDecoder::UNet2DDecoder(ParameterSet& set, const std::string& prefix, const NetworkOptions& options,
                             UpSampling up_sampling)
    : up_sampling_(up_sampling) {
  for (int level = 3; level >= 0; --level) {
    const int64_t width = options.filters << level;
    const std::string name = text(prefix, "up", 4 - level);
    if (up_sampling == UpSampling::transposed) {
      narrow_.push_back(
          declare_conv(set, name + ".up", {2 * width, width, {1, 2, 2}, {1, 2, 2}, {0, 0, 0}, true}, 2));
    } else {
      narrow_.push_back(declare_conv(set, name + ".conv1x1", same_conv_2d(2 * width, width, 1), 2));
    }
    levels_.push_back(conv_block(set, name + ".conv", 2 * width, width));
  }
}

Variable UNet2DDecoder::up(size_t step, Variable h, const Variable& skip, const Pass& pass) const {
  h = conv(h, narrow_[step]);
  if (up_sampling_ == UpSampling::linear)
    h = upsample(h, 2, kernels::Interpolation::linear_aligned, kernels::Grid::slice);
  if (up_sampling_ == UpSampling::nearest)
    h = upsample(h, 2, kernels::Interpolation::nearest, kernels::Grid::slice);
  return levels_[step](concat_channels(skip, h), pass);
}

Variable UNet2DDecoder::operator()(std::vector<Variable> levels, const Pass& pass) const {
  Variable h = levels[4];
  levels.pop_back();
  for (size_t step = 0; step < 4; ++step) {
    h = up(step, std::move(h), levels.back(), pass);
    levels.pop_back();
  }
  return h;
}

ConvLayer declare_unet2d_head(ParameterSet& set, const std::string& prefix, const NetworkOptions& options) {
  return declare_conv(set, prefix + "out_conv", same_conv_2d(options.filters, options.classes, 3), 2);
}

UNet2D::UNet2D(const NetworkOptions& options)
    : Network(options),
      encoder_(parameters_, "encoder.", options),
      decoder_(parameters_, "decoder.", options),
      out_conv_(declare_unet2d_head(parameters_, "decoder.", options)) {}

Variable UNet2D::run(const Variable& x, const Pass& pass) {
  return conv(decoder_(encoder_(x, pass, options_.dropout), pass), out_conv_, true);
}

NetworkOutput UNet2D::run_all(const Variable& x, const Pass& pass) {
  std::vector<Variable> levels = encoder_(x, pass, options_.dropout);
  NetworkOutput output;
  Variable h = levels.back();
  for (size_t step = 0; step < 4; ++step) {
    levels.pop_back();
    h = decoder_.up(step, std::move(h), levels.back(), pass);
    if (step == 2) output.features = h;
  }
  output.logits = conv(h, out_conv_, true);
  return output;
}

}  // namespace semivox
