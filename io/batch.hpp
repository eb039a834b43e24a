// Batches for the network out of cached cases: draw, then one gather kernel.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/tensor.hpp"
#include "io/augment.hpp"
#include "io/case_cache.hpp"

namespace semivox::io {

struct Batch {
  Tensor image;  ///< (N, C, D, H, W) f32
  Tensor label;  ///< (N, 1, D, H, W) u8, all 0 for a case without label
};

/// Patches of `patch` voxels from the cases, augmented by what `(seed, iteration, position in the batch)`
/// draws; on the device of the cases.
Batch make_batch(const std::vector<const CachedCase*>& cases, const Extent3& patch, AugmentMode mode,
                 uint64_t seed, uint64_t iteration);

/// The whole image of a case as (1, C, D, H, W) f32 on the device of the case.
Tensor whole_image(const CachedCase& cached);

}  // namespace semivox::io
