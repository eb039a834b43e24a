#include "layers/ss_net.hpp"

namespace semivox {

VoxelHead::VoxelHead(ParameterSet& set, const std::string& name, int64_t in_channels, int64_t hidden,
                     int64_t out_channels, double slope)
    : first_(set, name + ".0", name + ".1",
             {.geometry = same_conv(in_channels, hidden, 1),
              .norm = kernels::Norm::batch,
              .slope = slope,
              .axes = 0}),
      second_(declare_conv(set, name + ".3", same_conv(hidden, out_channels, 1), 0)) {}

Variable VoxelHead::operator()(const Variable& x, const Pass& pass) const {
  return conv(first_(x, pass), second_);
}

ContrastHeads::ContrastHeads(ParameterSet& set, int64_t features, int64_t classes)
    : projection(set, "projection_head", features, 2 * features, 2 * features, 0.0),
      prediction(set, "prediction_head", 2 * features, 2 * features, 2 * features, 0.0) {
  const auto selector = [&](std::deque<VoxelHead>& list, const std::string& name) {
    list.emplace_back(set, name, 2 * features, 2 * features, 1, 0.2);
  };
  for (int64_t c = 0; c < classes; ++c) selector(class_selectors, text("contrastive_class_selector_", c));
  for (int64_t c = 0; c < classes; ++c)
    selector(memory_selectors, text("contrastive_class_selector_memory", c));
}

VNetContrast::VNetContrast(const NetworkOptions& options)
    : ContrastNetwork(options),
      encoder_(parameters_, "", options),
      decoder_(parameters_, "", options),
      out_conv_(declare_conv(parameters_, "out_conv", same_conv(options.filters, options.classes, 1))),
      heads_(parameters_, options.filters, options.classes) {}

NetworkOutput VNetContrast::run_all(const Variable& x, const Pass& pass) {
  const Variable h = decoder_(encoder_(x, pass, options_.dropout), pass, options_.dropout);
  return {conv(h, out_conv_, true), {}, {}, h};
}

UNet2DContrast::UNet2DContrast(const NetworkOptions& options)
    : ContrastNetwork(options),
      encoder_(parameters_, "encoder.", options),
      decoder_(parameters_, "decoder.", options),
      out_conv_(declare_unet2d_head(parameters_, "decoder.", options)),
      heads_(parameters_, options.filters, options.classes) {}

NetworkOutput UNet2DContrast::run_all(const Variable& x, const Pass& pass) {
  const Variable h = decoder_(encoder_(x, pass, options_.dropout), pass);
  return {conv(h, out_conv_, true), {}, {}, h};
}

}  // namespace semivox
