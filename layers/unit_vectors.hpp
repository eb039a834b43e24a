// Feature vectors of length one, on the tape.
#pragma once

#include "engine/variable.hpp"

namespace semivox {

/// Every voxel's channels divided by their Euclidean norm (see kernels/unit_vectors.hpp); f32, f64 for f64 x.
/// Keeps the result.
Variable unit_vectors(const Variable& x);

}  // namespace semivox
