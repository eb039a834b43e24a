#include "layers/vnet_parts.hpp"

#include "layers/resize.hpp"

namespace semivox {

namespace {

constexpr const char* kNames[] = {"block_one", "block_two",   "block_three", "block_four", "block_five",
                                  "block_six", "block_seven", "block_eight", "block_nine"};
constexpr int64_t kConvolutions[] = {1, 2, 3, 3, 3, 3, 3, 2, 1};

/// `<name>.conv.<child>` and, behind it, its norm.
Block child_block(ParameterSet& set, const std::string& name, int64_t child,
                  const kernels::ConvGeometry& geometry, const NetworkOptions& options) {
  return Block(set, text(name, ".conv.", child), text(name, ".conv.", child + 1),
               BlockOptions{.geometry = geometry, .norm = parse_norm(options.norm)});
}

}  // namespace

VNetStage::VNetStage(ParameterSet& set, const std::string& name, int64_t count, int64_t in_channels,
                     int64_t out_channels, const NetworkOptions& options)
    : residual_(options.residual), width_(out_channels) {
  // PyTorch counts convolution, norm and activation as children of a Sequential named `conv`.
  const int64_t children = options.norm == "none" ? 2 : 3;
  for (int64_t i = 0; i < count; ++i) {
    blocks_.push_back(child_block(set, name, i * children,
                                  same_conv(i == 0 ? in_channels : out_channels, out_channels, 3), options));
  }
}

Variable VNetStage::operator()(const Variable& x, const Pass& pass, double dropout) const {
  const size_t last = blocks_.size() - 1;
  Variable h = x;
  for (size_t i = 0; i < last; ++i) h = blocks_[i](h, pass);
  if (!residual_) return blocks_[last](h, pass, dropout);
  // The image itself is the input of block_one: one channel stands for all.
  const Variable input = x.shape().c == width_ ? x : repeat_channel(x, width_);
  return blocks_[last](h, pass, dropout, input, kernels::Skip::before);
}

VNetEncoder::VNetEncoder(ParameterSet& set, const std::string& prefix, const NetworkOptions& options) {
  const int64_t f = options.filters;
  if (parse_norm(options.norm) == kernels::Norm::group && f % 16 != 0) {
    throw UsageError(text("filters: found ", f, ", expected a multiple of 16 for groupnorm"));
  }
  if (options.residual && options.in_channels != 1 && options.in_channels != f) {
    throw UsageError(
        text("in_channels: found ", options.in_channels, ", expected 1 or ", f, " with residual"));
  }
  // Parameters are declared in the order in which PyTorch's module enumerates them.
  for (int level = 0; level < 5; ++level) {
    const int64_t width = f << level;
    const std::string name = prefix + kNames[level];
    stages_.emplace_back(set, name, kConvolutions[level], level == 0 ? options.in_channels : width, width,
                         options);
    if (level < 4) downs_.push_back(child_block(set, name + "_dw", 0, down_conv(width, 2 * width), options));
  }
}

std::vector<Variable> VNetEncoder::operator()(const Variable& x, const Pass& pass, double dropout) const {
  std::vector<Variable> levels;
  for (size_t level = 0; level < 5; ++level) {
    const Variable h = level == 0 ? x : downs_[level - 1](levels.back(), pass);
    levels.push_back(stages_[level](h, pass, level == 4 ? dropout : 0.0));
  }
  return levels;
}

VNetDecoder::VNetDecoder(ParameterSet& set, const std::string& prefix, const NetworkOptions& options,
                         UpSampling up_sampling)
    : up_sampling_(up_sampling) {
  const bool transposed = up_sampling == UpSampling::transposed;
  for (int level = 3; level >= 0; --level) {
    const int64_t width = options.filters << level;
    const int stage = 8 - level;
    // The interpolation is child 0 of its Sequential and has no parameters.
    ups_.push_back(child_block(set, prefix + kNames[stage - 1] + "_up", transposed ? 0 : 1,
                               transposed ? up_conv(2 * width, width) : same_conv(2 * width, width, 3),
                               options));
    stages_.emplace_back(set, prefix + kNames[stage], kConvolutions[stage], width, width, options);
  }
}

Variable VNetDecoder::up(size_t step, Variable h, Variable skip, const Pass& pass, double dropout) const {
  if (up_sampling_ == UpSampling::linear) h = upsample(h, 2, kernels::Interpolation::linear_aligned);
  if (up_sampling_ == UpSampling::nearest) h = upsample(h, 2, kernels::Interpolation::nearest);
  h = ups_[step](h, pass, 0.0, skip, kernels::Skip::after);
  skip = {};  // its memory is free while the stage runs
  return stages_[step](h, pass, step == 3 ? dropout : 0.0);
}

Variable VNetDecoder::operator()(std::vector<Variable> levels, const Pass& pass, double dropout) const {
  Variable h = levels[4];
  levels.pop_back();
  for (size_t step = 0; step < 4; ++step) {
    h = up(step, std::move(h), std::move(levels.back()), pass, dropout);
    levels.pop_back();
  }
  return h;
}

}  // namespace semivox
