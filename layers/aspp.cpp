#include "layers/aspp.hpp"

#include "layers/double_conv.hpp"
#include "layers/resize.hpp"

namespace semivox {

namespace {

/// Convolution of kernel^3 without bias that keeps the size, batch norm, ReLU.
Block declare_block(ParameterSet& set, const std::string& conv_name, const std::string& norm_name,
                    int64_t in_channels, int64_t out_channels, int64_t kernel = 1, int64_t dilation = 1) {
  BlockOptions options{.geometry = same_conv(in_channels, out_channels, kernel), .bias = false};
  options.geometry.dilation = dilation;
  for (int64_t& padding : options.geometry.padding) padding *= dilation;
  return {set, conv_name, norm_name, options};
}

std::deque<Block> declare_branches(ParameterSet& set, const std::string& name, int64_t in_channels,
                                   int64_t out_channels) {
  std::deque<Block> branches;
  for (const int64_t dilation : {1, 6, 12, 18}) {
    const std::string branch = text(name, ".aspp", branches.size() + 1);
    branches.push_back(declare_block(set, branch + ".atrous_conv", branch + ".bn", in_channels, out_channels,
                                     dilation == 1 ? 1 : 3, dilation));
  }
  return branches;
}

}  // namespace

ASPP::ASPP(ParameterSet& set, const std::string& name, int64_t in_channels, int64_t out_channels)
    : branches_(declare_branches(set, name, in_channels, out_channels)),
      pooled_(declare_block(set, name + ".global_avg_pool.1", name + ".bn_after_pool", in_channels,
                            out_channels)),
      mix_(declare_block(set, name + ".conv1", name + ".bn1", 5 * out_channels, out_channels)) {}

Variable ASPP::operator()(const Variable& x, const Pass& pass, double dropout) const {
  const Variable mean = global_average(x);
  const Variable pooled =
      x.shape().n > 1 ? pooled_(mean, pass) : conv_norm_act(mean, pooled_.convolution(), activation_, {});
  Variable joined = branches_[0](x, pass);
  for (size_t k = 1; k < branches_.size(); ++k) joined = concat_channels(joined, branches_[k](x, pass));
  const std::array<int64_t, 3> size{x.shape().d, x.shape().h, x.shape().w};
  joined = concat_channels(joined, resize(pooled, size, kernels::Interpolation::linear_aligned));
  return semivox::dropout(mix_(joined, pass), pass, dropout);
}

}  // namespace semivox
