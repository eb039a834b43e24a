// Maps made from logits without gradients: softmax, hard labels, entropy, KL divergence, and noise for
// teachers' inputs.
#pragma once

#include "engine/random.hpp"
#include "engine/tensor.hpp"

namespace semivox::kernels {

/// softmax over the channels of logits (N,C,D,H,W), f32 or f64.
Tensor softmax(const Tensor& logits);

/// mean += softmax(logits of sample block j) / blocks for j = 0 ... blocks-1, where logits has blocks * N
/// samples and `mean` (N,C,D,H,W) N: collects the mean of stochastic passes run as one batch.
void accumulate_softmax(const Tensor& logits, int64_t blocks, double weight, Tensor& mean);

/// u8 (N,1,D,H,W): class of the highest logit, ties to the lower class; for two classes 1 where p1 >= 0.5
/// with `ties_to_foreground`, the rule of BCP.
Tensor hard_labels(const Tensor& logits, bool ties_to_foreground);

/// u = -sum_c p_c log(p_c + 1e-6), natural log, (N,1,D,H,W), of probabilities (UA-MT, Yu et al. 2019).
Tensor entropy(const Tensor& probabilities);

/// KL(softmax(a) || softmax(b)) per voxel, (N,1,D,H,W), in the dtype of the logits: the uncertainty map of
/// UPC.
Tensor kl_divergence(const Tensor& logits_a, const Tensor& logits_b);

/// `copies` noisy copies of x (N,C,D,H,W) one after another: x + clamp(sigma * normal, -clip, clip), noise of
/// its own for every element; sigma = 0 copies.
Tensor noisy_copies(const Tensor& x, int64_t copies, double sigma, double clip, const RandomStream& random);

}  // namespace semivox::kernels
