// Channel plumbing: joining two feature maps along the channels, repeating one channel, and their gradients.
#pragma once

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// [a, b] along the channels; a (N,D,H,W,Ca), b (N,D,H,W,Cb) of the same dtype.
Tensor concat_channels(const Tensor& a, const Tensor& b);

/// Channels first ... first+count-1 of x as a tensor of their own.
Tensor take_channels(const Tensor& x, int64_t first, int64_t count);

/// Repeats the one channel of x `channels` times.
Tensor repeat_channel(const Tensor& x, int64_t channels);

/// Sum over the channels, (N,D,H,W,1): the gradient of `repeat_channel`.
Tensor sum_over_channels(const Tensor& x);

/// Adds the sum of every channel over samples and voxels to `sums` (C elements, f32, f64 for f64 x): a bias
/// gradient.
void add_channel_sums(const Tensor& x, Tensor& sums);

}  // namespace semivox::kernels
