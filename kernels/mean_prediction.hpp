// The mean of two networks' predictions, as logits: what an ensemble of two predicts.
#pragma once

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// log((softmax(a) + softmax(b)) / 2) of logits a and b (N,C,D,H,W), f32 or f64: its softmax is the mean of
/// the two predictions.
Tensor mean_prediction(const Tensor& a, const Tensor& b);

/// Gradient of a from `dy`, the gradient of mean_prediction(a, b); exchange a and b for that of b.
Tensor mean_prediction_backward(const Tensor& a, const Tensor& b, const Tensor& dy);

}  // namespace semivox::kernels
