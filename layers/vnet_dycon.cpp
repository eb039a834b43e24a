#include "layers/vnet_dycon.hpp"

#include "layers/pointwise.hpp"
#include "layers/resize.hpp"

namespace semivox {

VNetDycon::VNetDycon(const NetworkOptions& options)
    : Network(options),
      encoder_(parameters_, "", options),
      decoder_(parameters_, "", options),
      out_conv_(declare_conv(parameters_, "out_conv", same_conv(options.filters, options.classes, 1))),
      unused_(declare_conv(parameters_, "out_conv2", same_conv(options.filters, options.classes, 1))),
      hidden_(parameters_, "projection.0", "projection.1",
              {.geometry = same_conv(options.filters << 4, options.filters << 5, 1),
               .norm = kernels::Norm::batch,
               .slope = 1.0}),
      embedding_(declare_conv(parameters_, "projection.2",
                              same_conv(options.filters << 5, options.filters << 4, 1))) {}

Variable VNetDycon::run(const Variable& x, const Pass& pass) {
  return conv(decoder_(encoder_(x, pass, options_.dropout), pass, options_.dropout), out_conv_, true);
}

NetworkOutput VNetDycon::run_all(const Variable& x, const Pass& pass) {
  const std::vector<Variable> levels = encoder_(x, pass, options_.dropout);
  const Variable grid = upsample(levels.back(), 2, kernels::Interpolation::linear_aligned);
  NetworkOutput output;
  output.features = conv(hidden_(grid, pass), embedding_);
  output.logits = conv(decoder_(levels, pass, options_.dropout), out_conv_, true);
  output.distance = tanh(output.logits);
  return output;
}

}  // namespace semivox
