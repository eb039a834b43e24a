// Picked voxels of a feature map on the tape.
#pragma once

#include "engine/variable.hpp"

namespace semivox {

/// (1,C,1,1,M): the rows of x (N,C,D,H,W) that `rows` lists, each at most once (kernels/rows.hpp). Keeps
/// nothing but the list.
Variable take_rows(const Variable& x, const Tensor& rows);

}  // namespace semivox
