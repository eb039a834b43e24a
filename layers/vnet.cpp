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

}  // namespace semivox
