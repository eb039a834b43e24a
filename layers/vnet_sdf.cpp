#include "layers/vnet_sdf.hpp"

#include "layers/pointwise.hpp"

namespace semivox {

VNetSDF::VNetSDF(const NetworkOptions& options)
    : Network(options),
      encoder_(parameters_, "", options),
      decoder_(parameters_, "", options),
      distance_(declare_conv(parameters_, "out_conv", same_conv(options.filters, 1, 1))),
      foreground_(declare_conv(parameters_, "out_conv2", same_conv(options.filters, 1, 1))) {
  if (options.classes != 2) {
    throw UsageError(text("classes: found ", options.classes, ", expected 2 for ", options.name));
  }
}

Variable VNetSDF::decoded(const Variable& x, const Pass& pass) const {
  return decoder_(encoder_(x, pass, options_.dropout), pass, options_.dropout);
}

Variable VNetSDF::segmentation(const Variable& h) const {
  const Variable b = conv(h, foreground_, true);
  return concat_channels(Variable(Tensor::zeros(b.shape(), b.value().dtype(), b.value().device())), b);
}

Variable VNetSDF::run(const Variable& x, const Pass& pass) { return segmentation(decoded(x, pass)); }

NetworkOutput VNetSDF::run_all(const Variable& x, const Pass& pass) {
  const Variable h = decoded(x, pass);
  return {segmentation(h), {}, tanh(conv(h, distance_, true)), {}};
}

}  // namespace semivox
