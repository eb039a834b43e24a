// Normalisation, channel dropout, activation and skip addition behind a convolution, as one op.
//
//   out = act(y * scale + shift [+ drop * skip]) [+ skip]        scale, shift per (sample, channel)
//
// Batch, instance and group norm and no norm differ only in which sums make scale and shift, and Dropout3d
// only multiplies both by its factor (0 or 1/(1-p) per (sample, channel); the activations are positively
// homogeneous), so one pass for the sums and one pass over the elements serve them all. Backward recomputes
// the activation from y: nothing but y and the sums is kept. Batch norm: Ioffe and Szegedy, ICML 2015;
// instance norm: Ulyanov et al., 2016; group norm: Wu and He, ECCV 2018. Bytes: forward reads y twice and
// writes out once (and reads skip), backward reads y and d_out twice and writes d_y once.
#pragma once

#include <memory>

#include "engine/parameters.hpp"
#include "engine/random.hpp"

namespace semivox::kernels {

enum class Norm { none, batch, instance, group };

/// Where the skip enters: nowhere, after the activation (V-Net's up blocks), or before it (residual stages).
enum class Skip { none, after, before };

/// Everything of a block behind its convolution that stays the same from call to call. Pointers may be null.
struct NormBlock {
  Norm norm = Norm::none;
  int64_t groups = 16;  ///< group norm
  double epsilon = 1e-5;
  double momentum = 0.1;       ///< of the running statistics (batch norm)
  Parameter* gamma = nullptr;  ///< (C)
  Parameter* beta = nullptr;   ///< (C)
  Parameter* running_mean = nullptr;
  Parameter* running_variance = nullptr;
  Parameter* batches = nullptr;      ///< num_batches_tracked
  Parameter* conv_bias = nullptr;    ///< its gradient falls out of the sums
  double slope = 0.0;                ///< of the activation below zero: 0 ReLU, 1 identity, 0.01 leaky ReLU
  Parameter* prelu_slope = nullptr;  ///< (C), or (1) for all channels; replaces `slope` when there
};

/// One call's settings.
struct NormCall {
  bool batch_statistics = true;  ///< false: batch norm uses its running statistics (evaluation)
  double dropout = 0.0;          ///< probability that a channel is dropped; 0 = off
  RandomStream random;           ///< draws of the dropout, index sample * C + channel
  Skip skip_mode = Skip::none;
};

/// What forward hands to backward besides y.
struct NormSaved {
  Tensor sums;   ///< f64 (N, 2, C): sum of y, sum of y^2
  Tensor scale;  ///< (N, C) compute type
  Tensor shift;  ///< (N, C)
  Tensor slope;  ///< (C)
};

/// y (N,D,H,W,C) convolution output; skip has y's shape or is undefined. Returns out; fills `saved`; updates
/// running statistics.
Tensor norm_forward(const NormBlock& block, const NormCall& call, const Tensor& y, const Tensor& skip,
                    NormSaved& saved);

/// The second half of `norm_forward`, out from y and what was saved: the same bits again, for a backward pass
/// that kept y alone.
Tensor norm_apply(const NormBlock& block, const NormCall& call, const Tensor& y, const Tensor& skip,
                  const NormSaved& saved);

/// Returns d_y and adds the gradients of gamma, beta, conv_bias and prelu_slope to their slots. `d_out` may
/// be overwritten when it has no other owner. For Skip::before `d_skip` receives the gradient of skip (for
/// Skip::after it equals d_out).
Tensor norm_backward(const NormBlock& block, const NormCall& call, const Tensor& y, const Tensor& skip,
                     const NormSaved& saved, const Tensor& d_out, Tensor* d_skip);

/// True when a call's normalisation is a fixed map per channel that can go into the convolution's weights.
bool is_foldable(const NormBlock& block, const NormCall& call);

/// Folds batch norm's running statistics into a convolution: norm(conv(x)) = conv'(x) with weights' = s *
/// weights and bias' = s * bias + t per output channel. `weights` and `folded_weights` in the layer's order,
/// each output channel's values `run` elements long and the channels cycling; biases (C).
void fold_norm(const NormBlock& block, const Tensor& weights, int64_t run, Tensor& folded_weights,
               Tensor& folded_bias);

/// y = act(y + bias) [+ skip] in place: what is left of a block behind a convolution whose weights hold the
/// norm. `slope` below zero, 1 for none; bias (C), f32 (f64 for f64 y), and skip, like y, may be undefined.
void activate(Tensor& y, const Tensor& bias, double slope, const Tensor& skip);

}  // namespace semivox::kernels
