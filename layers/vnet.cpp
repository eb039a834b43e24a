#include "layers/vnet.hpp"

namespace semivox {

VNet::VNet(const NetworkOptions& options)
    : Network(options),
      encoder_(parameters_, "", options),
      decoder_(parameters_, "", options),
      out_conv_(declare_conv(parameters_, "out_conv", same_conv(options.filters, options.classes, 1))) {}

Variable VNet::run(const Variable& x, const Pass& pass) {
  const Variable h = decoder_(encoder_(x, pass, options_.dropout), pass, options_.dropout);
  return conv(h, out_conv_, true);
}

NetworkOutput VNet::run_all(const Variable& x, const Pass& pass) {
  std::vector<Variable> levels = encoder_(x, pass, options_.dropout);
  NetworkOutput output;
  Variable h = levels.back();
  for (size_t step = 0; step < 4; ++step) {
    levels.pop_back();
    h = decoder_.up(step, std::move(h), std::move(levels.back()), pass, options_.dropout);
    if (step == 2) output.features = h;
  }
  output.logits = conv(h, out_conv_, true);
  return output;
}

}  // namespace semivox
