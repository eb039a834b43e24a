#include "layers/vnet_original.hpp"

namespace semivox {

namespace {

// act(convs(x) + x): the stage's input joins before the last activation; a single image channel stands for
// all.
Variable run_residual(const std::deque<Block>& blocks, const Variable& x, int64_t width, const Pass& pass) {
  Variable h = x;
  for (size_t i = 0; i + 1 < blocks.size(); ++i) h = blocks[i](h, pass);
  const Variable input = x.shape().c == width ? x : repeat_channel(x, width);
  return blocks.back()(h, pass, 0.0, input, kernels::Skip::before);
}

}  // namespace

VNetOriginal::VNetOriginal(const NetworkOptions& options) : Network(options) {
  const int64_t f = options.filters;
  require_norm(options, "none");
  if (options.dropout != 0) {
    throw UsageError(text("dropout: found ", options.dropout, ", expected 0 for vnet_original"));
  }
  if (options.in_channels != 1 && options.in_channels != f) {
    throw UsageError(text("in_channels: found ", options.in_channels, ", expected 1 or ", f));
  }
  static constexpr int64_t convs[] = {1, 2, 3, 3, 3};
  for (int level = 0; level < 5; ++level) {
    const int64_t width = f << level;
    if (level > 0) {
      downs_.emplace_back(
          parameters_, text("down_", level), "",
          BlockOptions{.geometry = down_conv(width / 2, width), .norm = kernels::Norm::none, .prelu = true});
    }
    down_stages_.push_back(
        make_stage(text("left_", level + 1), convs[level], level == 0 ? options.in_channels : width, width));
  }
  for (int level = 3; level >= 0; --level) {
    const int64_t width = f << level;  // of the upsampled half; the stage works on both halves
    const int64_t from = level == 3 ? 2 * width : 4 * width;
    ups_.emplace_back(
        parameters_, text("up_", level + 1), "",
        BlockOptions{.geometry = up_conv(from, width), .norm = kernels::Norm::none, .prelu = true});
    up_stages_.push_back(make_stage(text("right_", level + 1), convs[level], 2 * width, 2 * width));
  }
  out_conv_ = declare_conv(parameters_, "out_conv", same_conv(2 * f, options.classes, 1));
}

VNetOriginal::Stage VNetOriginal::make_stage(const std::string& name, int64_t count, int64_t in_channels,
                                             int64_t width) {
  Stage stage;
  for (int64_t i = 0; i < count; ++i) {
    stage.emplace_back(parameters_, text(name, ".", i), "",
                       BlockOptions{.geometry = same_conv(i == 0 ? in_channels : width, width, 5),
                                    .norm = kernels::Norm::none,
                                    .prelu = true});
  }
  return stage;
}

Variable VNetOriginal::run(const Variable& x, const Pass& pass) {
  const int64_t f = options_.filters;
  std::vector<Variable> skips;
  Variable h = x;
  for (size_t level = 0; level < 5; ++level) {
    if (level > 0) h = downs_[level - 1](h, pass);
    h = run_residual(down_stages_[level], h, f << level, pass);
    skips.push_back(h);
  }
  for (size_t i = 0; i < 4; ++i) {
    const size_t level = 3 - i;
    h = concat_channels(ups_[i](h, pass), skips[level]);
    h = run_residual(up_stages_[i], h, 2 * (f << level), pass);
  }
  return conv(h, out_conv_, true);
}

}  // namespace semivox
