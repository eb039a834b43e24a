#include "layers/vnet.hpp"

namespace semivox {

VNet::VNet(const NetworkOptions& options) : Network(options), norm_(parse_norm(options.norm)) {
  const int64_t f = options.filters;
  if (norm_ == kernels::Norm::group && f % 16 != 0) {
    throw UsageError(text("filters: found ", f, ", expected a multiple of 16 for groupnorm"));
  }
  if (options.residual && options.in_channels != 1 && options.in_channels != f) {
    throw UsageError(
        text("in_channels: found ", options.in_channels, ", expected 1 or ", f, " with residual"));
  }
  // Parameters are declared in the order in which PyTorch's module enumerates them.
  static const char* const names[] = {"block_one", "block_two",   "block_three", "block_four", "block_five",
                                      "block_six", "block_seven", "block_eight", "block_nine"};
  static constexpr int64_t convs[] = {1, 2, 3, 3, 3, 3, 3, 2, 1};
  for (int level = 0; level < 5; ++level) {
    const int64_t width = f << level;
    down_stages_.push_back(
        make_stage(names[level], convs[level], level == 0 ? options.in_channels : width, width));
    if (level < 4)
      downs_.push_back(make_resample(std::string(names[level]) + "_dw", down_conv(width, 2 * width)));
  }
  for (int level = 3; level >= 0; --level) {
    const int64_t width = f << level;
    const int stage = 8 - level;
    ups_.push_back(make_resample(std::string(names[stage - 1]) + "_up", up_conv(2 * width, width)));
    up_stages_.push_back(make_stage(names[stage], convs[stage], width, width));
  }
  out_conv_ = declare_conv(parameters_, "out_conv", same_conv(f, options.classes, 1));
}

VNet::Stage VNet::make_stage(const std::string& name, int64_t count, int64_t in_channels,
                             int64_t out_channels) {
  // PyTorch counts convolution, norm and activation as children of a Sequential named `conv`.
  const int64_t children = norm_ == kernels::Norm::none ? 2 : 3;
  Stage stage;
  stage.residual = options_.residual;
  stage.width = out_channels;
  for (int64_t i = 0; i < count; ++i) {
    stage.blocks.emplace_back(
        parameters_, text(name, ".conv.", i * children), text(name, ".conv.", i * children + 1),
        BlockOptions{same_conv(i == 0 ? in_channels : out_channels, out_channels, 3), norm_});
  }
  return stage;
}

Block VNet::make_resample(const std::string& name, const kernels::ConvGeometry& geometry) {
  return Block(parameters_, name + ".conv.0", name + ".conv.1", BlockOptions{geometry, norm_});
}

Variable VNet::run_stage(const Stage& stage, const Variable& x, const Pass& pass, double dropout) {
  const size_t last = stage.blocks.size() - 1;
  Variable h = x;
  for (size_t i = 0; i < last; ++i) h = stage.blocks[i](h, pass);
  if (!stage.residual) return stage.blocks[last](h, pass, dropout);
  // The image itself is the input of block_one: one channel stands for all.
  const int64_t width = stage.width;
  const Variable input = x.shape().c == width ? x : repeat_channel(x, width);
  return stage.blocks[last](h, pass, dropout, input, kernels::Skip::before);
}

Variable VNet::run(const Variable& x, const Pass& pass) {
  std::vector<Variable> skips;
  Variable h = x;
  for (size_t level = 0; level < 5; ++level) {
    h = run_stage(down_stages_[level], h, pass, level == 4 ? options_.dropout : 0.0);
    if (level == 4) break;
    skips.push_back(h);
    h = downs_[level](h, pass);
  }
  for (size_t level = 0; level < 4; ++level) {
    h = ups_[level](h, pass, 0.0, skips[3 - level], kernels::Skip::after);
    skips.pop_back();
    h = run_stage(up_stages_[level], h, pass, level == 3 ? options_.dropout : 0.0);
  }
  return conv(h, out_conv_, true);
}

}  // namespace semivox
