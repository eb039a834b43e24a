// Virtual adversarial training (Miyato et al., "Virtual adversarial training: a regularization method for
// supervised and semi-supervised learning", IEEE TPAMI 2019) with a Dice distance, as SS-Net has it.
//
// The direction in which a small change of the image changes the prediction most is found by power
// iteration: a step from a random direction along the gradient of the distance by the image. Directions have
// L2 norm 1 in every sample.
#pragma once

#include "kernels/voxel_program.hpp"
#include "layers/network.hpp"

namespace semivox {

struct VatOptions {
  double xi = 10;       ///< length of the step at which the gradient is taken
  double epsilon = 10;  ///< length of the adversarial perturbation
  int64_t iterations = 1;
  bool per_class = false;  ///< the distance: mean over classes of Dice with squares, else one Dice of all
};

/// 1 - Dice of two soft predictions, p = softmax(logits) and the constant q = softmax(clean), both
/// (N,C,D,H,W) and of one dtype. All classes as one: 1 - (2 sum pq + 1e-8) / (sum p + sum q + 1e-8); or
/// `per_class` the mean over classes of 1 - (2 sum pq + 1e-10) / (sum p^2 + sum q^2 + 1e-10). Sums run over
/// samples and voxels. Not 0 for p = q unless every voxel is certain. results: the distance.
LossValue prediction_distance(const Variable& logits, const Tensor& clean, bool per_class);

/// factor * x / (|factor| ||x||_2 + 1e-8) for every sample of x (f32 or f64).
Tensor unit_direction(const Tensor& x, double factor = 1.0);

/// A start of the power iteration, of length 1: elements uniform in (-1/2, 1/2) before normalisation.
Tensor random_direction(const Shape& shape, DType dtype, Device device, const RandomStream& random);

/// The same without chance: element i of memory order is sin(i + 1) before normalisation.
Tensor wave_direction(const Shape& shape, DType dtype, Device device);

/// image + length * direction as an input of the network, with or without a gradient.
Variable perturbed(const Network& network, const Tensor& image, const Tensor& direction, double length,
                   bool needs_gradient);

/// The adversarial direction from `start`: options.iterations times the normalised gradient of
/// prediction_distance(network(image + xi * d), clean) by d. `image` and `start` have one dtype, f32 or f64.
/// A network without parameter gradients saves a third of the time; batch norm updates its running
/// statistics.
Tensor adversarial_direction(Network& network, const Tensor& image, const Tensor& clean, Tensor start,
                             const VatOptions& options, const Pass& pass);

}  // namespace semivox
