// Batch norm with running statistics as part of the convolution before it.
#include "engine/arithmetic.hpp"
#include "engine/launch.hpp"
#include "kernels/norm.hpp"

namespace semivox::kernels {

namespace {

// y * scale + shift, joined with the convolution's bias.
template <class P>
struct FoldChannel {
  static constexpr bool kHostOnly = std::is_same_v<P, double>;
  const P *gamma, *beta, *mean, *variance;  // (C), null without norm
  const P* bias;                            // (C) or null
  double epsilon;
  P* scale;        // (C)
  P* folded_bias;  // (C)
  SEMIVOX_HD void operator()(int64_t c) const {
    double s = 1, t = 0;
    if (mean != nullptr) {
      s = gamma[c] / sqrt(variance[c] + epsilon);
      t = beta[c] - mean[c] * s;
    }
    scale[c] = static_cast<P>(s);
    folded_bias[c] = static_cast<P>((bias != nullptr ? bias[c] * s : 0.0) + t);
  }
};

template <class P>
struct FoldWeight {
  static constexpr bool kHostOnly = std::is_same_v<P, double>;
  const P* weights;
  const P* scale;  // (C)
  P* folded;
  int64_t run, channels;
  SEMIVOX_HD void operator()(int64_t i) const { folded[i] = weights[i] * scale[i / run % channels]; }
};

}  // namespace

bool is_foldable(const NormBlock& block, const NormCall& call) {
  const bool fixed = block.norm == Norm::none || (block.norm == Norm::batch && !call.batch_statistics);
  return fixed && block.prelu_slope == nullptr && call.dropout <= 0 && call.skip_mode != Skip::before;
}

void fold_norm(const NormBlock& block, const Tensor& weights, int64_t run, Tensor& folded_weights,
               Tensor& folded_bias) {
  const Device device = weights.device();
  const int64_t channels = folded_bias.elements();
  dispatch_float(weights.dtype(), [&](auto zero) {
    using P = compute_t<decltype(zero)>;
    const auto values = [](const Parameter* p) { return p != nullptr ? p->value.data<P>() : nullptr; };
    const Tensor scale = Tensor::empty(folded_bias.shape(), dtype_of<P>(), device, MemoryTag::workspace);
    map(device, "norm.fold_channels", channels,
        FoldChannel<P>{values(block.gamma), values(block.beta), values(block.running_mean),
                       values(block.running_variance), values(block.conv_bias), block.epsilon,
                       scale.data<P>(), folded_bias.data<P>()});
    map(device, "norm.fold_weights", weights.elements(),
        FoldWeight<P>{weights.data<P>(), scale.data<P>(), folded_weights.data<P>(), run, channels});
  });
}

}  // namespace semivox::kernels
