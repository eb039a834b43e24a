// How many classes the kernels take that hold one voxel's probabilities in registers.
#pragma once

namespace semivox::kernels {

/// A thread's array of this many values is unrolled away where fewer classes are used; the data sets of the
/// field have 2 to 9.
inline constexpr int kMaxClasses = 16;

}  // namespace semivox::kernels
