#include "layers/cml.hpp"

#include "engine/arithmetic.hpp"

namespace semivox {

namespace {

/// (a + b) / 2 of two feature maps.
Variable mean_of(const Variable& a, const Variable& b) {
  const auto half = [](const Tensor& x) {
    return add_scaled(Tensor::zeros(x.shape(), x.dtype(), x.device()), x, 0.5);
  };
  return Variable::result(add_scaled(half(a.value()), b.value(), 0.5), {a, b}, false,
                          [a = a.for_backward(), b = b.for_backward(), half](const Tensor& gradient) {
                            const Tensor share = half(gradient);
                            a.add_gradient(share);
                            b.add_gradient(share);
                          });
}

}  // namespace

Variable TwoViewNetwork::run(const Variable& x, const Pass& pass) {
  return mean_of(view(0, x, pass).logits, view(1, x, pass).logits);
}

NetworkOutput TwoViewNetwork::run_all(const Variable& x, const Pass& pass) {
  const View first = view(0, x, pass), second = view(1, x, pass);
  return {mean_of(first.logits, second.logits),
          {first.logits, second.logits},
          {},
          concat_channels(first.embedding, second.embedding)};
}

CML::CML(const NetworkOptions& options) : TwoViewNetwork(options) {
  for (const char* prefix : {"encoder1.", "encoder2."}) encoders_.emplace_back(parameters_, prefix, options);
  static constexpr UpSampling kinds[] = {UpSampling::transposed, UpSampling::linear};
  for (int k = 0; k < 2; ++k) {
    const std::string prefix = text("decoder", k + 1, ".");
    decoders_.emplace_back(parameters_, prefix, options, kinds[k]);
    heads_.push_back(
        declare_conv(parameters_, prefix + "out_conv", same_conv(options.filters, options.classes, 1)));
  }
}

TwoViewNetwork::View CML::view(size_t subnetwork, const Variable& x, const Pass& pass) const {
  const std::vector<Variable> levels = encoders_[subnetwork](x, pass, options_.dropout);
  return {conv(decoders_[subnetwork](levels, pass, options_.dropout), heads_[subnetwork], true),
          levels.back()};
}

CML2D::CML2D(const NetworkOptions& options, bool shared) : TwoViewNetwork(options), shared_(shared) {
  if (shared) {
    encoders_.emplace_back(parameters_, "encoder.", options);
  } else {
    for (const char* prefix : {"encoder1.", "encoder2."})
      encoders_.emplace_back(parameters_, prefix, options);
  }
  static constexpr UpSampling kinds[] = {UpSampling::linear, UpSampling::transposed};
  for (int k = 0; k < 2; ++k) {
    const std::string prefix = text("decoder", k + 1, ".");
    decoders_.emplace_back(parameters_, prefix, options, kinds[k]);
    heads_.push_back(declare_unet2d_head(parameters_, prefix, options));
  }
}

TwoViewNetwork::View CML2D::view(size_t subnetwork, const Variable& x, const Pass& pass) const {
  const size_t k = shared_ ? 0 : subnetwork;
  const std::vector<Variable> levels = encoders_[k](x, pass, options_.dropout);
  return {conv(decoders_[k](levels, pass), heads_[k], true), levels.back()};
}

}  // namespace semivox
