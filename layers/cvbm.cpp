#include "layers/cvbm.hpp"

namespace semivox {

CVBM::Branch CVBM::make_branch(ParameterSet& set, const std::string& prefix, const NetworkOptions& options,
                               UpSampling up_sampling) {
  const kernels::ConvGeometry head = same_conv(options.filters, options.classes, 1);
  Branch branch{VNetDecoder(set, prefix, options, up_sampling), declare_conv(set, prefix + "out_conv", head)};
  declare_conv(set, prefix + "out_conv2", head);
  return branch;
}

CVBM::CVBM(const NetworkOptions& options)
    : Network(options),
      encoder_(parameters_, "encoder.", options),
      foreground_(make_branch(parameters_, "decoder1.", options, UpSampling::transposed)),
      background_(make_branch(parameters_, "decoder1_bg.", options, UpSampling::nearest)),
      mixing_(declare_conv(parameters_, "final_seg1", same_conv(2 * options.classes, options.classes, 1))) {
  declare_conv(parameters_, "final_seg1_tanh", mixing_.geometry);
}

Variable CVBM::logits(const Branch& branch, const std::vector<Variable>& levels, const Pass& pass) const {
  return conv(branch.decoder(levels, pass, options_.dropout), branch.out_conv, true);
}

Variable CVBM::run(const Variable& x, const Pass& pass) {
  return logits(foreground_, encoder_(x, pass, options_.dropout), pass);
}

NetworkOutput CVBM::run_all(const Variable& x, const Pass& pass) {
  const std::vector<Variable> levels = encoder_(x, pass, options_.dropout);
  const Variable foreground = logits(foreground_, levels, pass);
  const Variable background = logits(background_, levels, pass);
  return {foreground, {conv(concat_channels(foreground, background), mixing_), background}, {}, {}};
}

CVBM2D::Branch CVBM2D::make_branch(ParameterSet& set, const std::string& prefix,
                                   const NetworkOptions& options) {
  UNet2DDecoder decoder(set, prefix, options);
  return {std::move(decoder), declare_unet2d_head(set, prefix, options)};
}

CVBM2D::CVBM2D(const NetworkOptions& options)
    : Network(options),
      encoder_(parameters_, "encoder.", options),
      foreground_(make_branch(parameters_, "decoder1.", options)),
      background_(make_branch(parameters_, "decoder1_bg.", options)),
      mixing_(
          declare_conv(parameters_, "final_seg1", same_conv_2d(2 * options.classes, options.classes, 1), 2)) {
  declare_conv(parameters_, "final_seg1_tanh", mixing_.geometry, 2);
}

Variable CVBM2D::run(const Variable& x, const Pass& pass) {
  return conv(foreground_.decoder(encoder_(x, pass, options_.dropout), pass), foreground_.out_conv, true);
}

NetworkOutput CVBM2D::run_all(const Variable& x, const Pass& pass) {
  const std::vector<Variable> levels = encoder_(x, pass, options_.dropout);
  const Variable foreground = conv(foreground_.decoder(levels, pass), foreground_.out_conv, true);
  const Variable background = conv(background_.decoder(levels, pass), background_.out_conv, true);
  return {foreground, {conv(concat_channels(foreground, background), mixing_), background}, {}, {}};
}

}  // namespace semivox
