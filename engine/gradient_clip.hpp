// Clipping of gradients by their norm (Pascanu et al., "On the difficulty of training recurrent neural
// networks", ICML 2013).
#pragma once

#include "engine/parameters.hpp"

namespace semivox {

/// Multiplies all gradients of the set by min(1, highest / (|g| + 1e-6)), |g| the Euclidean norm of all of
/// them together. Returns |g| before, one f64 element on the set's device.
Tensor clip_gradients(ParameterSet& parameters, double highest);

}  // namespace semivox
