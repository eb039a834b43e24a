// Differentiable functions of single elements.
#pragma once

#include "engine/random.hpp"
#include "engine/variable.hpp"

namespace semivox {

/// tanh of every element. Keeps the result.
Variable tanh(const Variable& x);

/// Zeroes elements with `probability` and divides the others by 1 - probability, as numbers of `random` say.
/// Keeps nothing: backward draws the same numbers again.
Variable dropout(const Variable& x, double probability, const RandomStream& random);

}  // namespace semivox
