#include "layers/discriminator.hpp"

#include "layers/resize.hpp"

namespace semivox {

namespace {

kernels::ConvGeometry halving(int64_t in_channels, int64_t out_channels) {
  return {in_channels, out_channels, {4, 4, 4}, {2, 2, 2}, {1, 1, 1}, false};
}

Block activated(ParameterSet& set, const std::string& name, int64_t in_channels, int64_t out_channels) {
  return Block(set, name, "",
               {.geometry = halving(in_channels, out_channels), .norm = kernels::Norm::none, .slope = 0.2});
}

std::deque<Block> make_convolutions(ParameterSet& set, int64_t filters) {
  std::deque<Block> blocks;
  for (int k = 0; k < 3; ++k)
    blocks.push_back(activated(set, text("conv", k + 2), filters << k, filters << (k + 1)));
  return blocks;
}

}  // namespace

Discriminator::Discriminator(int64_t filters, double dropout)
    : Network({.name = "discriminator",
               .in_channels = 2,
               .classes = 2,
               .filters = filters,
               .norm = "none",
               .dropout = dropout}),
      map_(activated(parameters_, "conv0", 1, filters)),
      image_(declare_conv(parameters_, "conv1", halving(1, filters))),
      convolutions_(make_convolutions(parameters_, filters)),
      classifier_(declare_conv(parameters_, "classifier", same_conv(8 * filters, 2, 1), 0)) {}

Variable Discriminator::run(const Variable& x, const Pass& pass) {
  const double dropout = options_.dropout;
  const Variable image = conv(take_channels(x, 1, 1), image_);
  Variable h = map_(take_channels(x, 0, 1), pass, dropout, image, kernels::Skip::before);
  for (size_t k = 0; k < convolutions_.size(); ++k)
    h = convolutions_[k](h, pass, k + 1 < convolutions_.size() ? dropout : 0.0);
  return conv(global_average(h), classifier_, true);
}

}  // namespace semivox
