#include "layers/mc_net.hpp"

namespace semivox {

MCNet::MCNet(const NetworkOptions& options, int decoders)
    : Network(options), encoder_(parameters_, "encoder.", options) {
  static constexpr UpSampling kinds[] = {UpSampling::transposed, UpSampling::linear, UpSampling::nearest};
  for (int k = 0; k < decoders; ++k) {
    const std::string prefix = text("decoder", k + 1, ".");
    decoders_.emplace_back(parameters_, prefix, options, kinds[k]);
    heads_.push_back(
        declare_conv(parameters_, prefix + "out_conv", same_conv(options.filters, options.classes, 1)));
  }
}

Variable MCNet::run(const Variable& x, const Pass& pass) {
  const double dropout = options_.dropout;
  return conv(decoders_[0](encoder_(x, pass, dropout), pass, dropout), heads_[0], true);
}

NetworkOutput MCNet::run_all(const Variable& x, const Pass& pass) {
  const std::vector<Variable> levels = encoder_(x, pass, options_.dropout);
  NetworkOutput output;
  output.logits = conv(decoders_[0](levels, pass, options_.dropout), heads_[0], true);
  for (size_t k = 1; k < decoders_.size(); ++k)
    output.auxiliary.push_back(conv(decoders_[k](levels, pass, options_.dropout), heads_[k], true));
  return output;
}

MCNet2D::MCNet2D(const NetworkOptions& options, int decoders)
    : Network(options), encoder_(parameters_, "encoder.", options) {
  static constexpr UpSampling kinds[] = {UpSampling::linear, UpSampling::transposed, UpSampling::nearest};
  for (int k = 0; k < decoders; ++k) {
    const std::string prefix = text("decoder", k + 1, ".");
    decoders_.emplace_back(parameters_, prefix, options, kinds[k]);
    heads_.push_back(declare_unet2d_head(parameters_, prefix, options));
  }
}

Variable MCNet2D::run(const Variable& x, const Pass& pass) {
  return conv(decoders_[0](encoder_(x, pass, options_.dropout), pass), heads_[0], true);
}

NetworkOutput MCNet2D::run_all(const Variable& x, const Pass& pass) {
  const std::vector<Variable> levels = encoder_(x, pass, options_.dropout);
  NetworkOutput output;
  output.logits = conv(decoders_[0](levels, pass), heads_[0], true);
  for (size_t k = 1; k < decoders_.size(); ++k)
    output.auxiliary.push_back(conv(decoders_[k](levels, pass), heads_[k], true));
  return output;
}

}  // namespace semivox
