#include "layers/mcf.hpp"

#include "kernels/mean_prediction.hpp"

namespace semivox {

namespace {

/// Logits of the mean of two predictions. Keeps both.
Variable mean_prediction(const Variable& a, const Variable& b) {
  return Variable::result(kernels::mean_prediction(a.value(), b.value()), {a, b}, false,
                          [a = a.for_backward(), b = b.for_backward()](const Tensor& dy) {
                            const Tensor x = a.value(), y = b.value();
                            a.add_gradient(kernels::mean_prediction_backward(x, y, dy));
                            b.add_gradient(kernels::mean_prediction_backward(y, x, dy));
                          });
}

ConvLayer declare_head(ParameterSet& set, const std::string& prefix, const NetworkOptions& options) {
  return declare_conv(set, prefix + "out_conv", same_conv(options.filters, options.classes, 1));
}

}  // namespace

MCF::MCF(const NetworkOptions& options)
    : Network(options),
      vnet_encoder_(parameters_, "vnet.", options),
      vnet_decoder_(parameters_, "vnet.", options),
      vnet_head_(declare_head(parameters_, "vnet.", options)),
      resvnet_encoder_(parameters_, "resvnet.", options),
      resvnet_decoder_(parameters_, "resvnet.", options),
      resvnet_head_(declare_head(parameters_, "resvnet.", options)) {
  use_kaiming_normal(parameters_);
}

Variable MCF::run(const Variable& x, const Pass& pass) { return run_all(x, pass).logits; }

NetworkOutput MCF::run_all(const Variable& x, const Pass& pass) {
  const double dropout = options_.dropout;
  const Variable vnet = conv(vnet_decoder_(vnet_encoder_(x, pass, dropout), pass, dropout), vnet_head_, true);
  const Variable resvnet =
      conv(resvnet_decoder_(resvnet_encoder_(x, pass), pass, dropout), resvnet_head_, true);
  NetworkOutput output;
  output.logits = mean_prediction(vnet, resvnet);
  output.auxiliary = {vnet, resvnet};
  return output;
}

}  // namespace semivox
