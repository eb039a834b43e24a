// Batches of 2D slices out of cached stacks, turned, flipped or rotated and brought to one size, as the
// literature on ACDC draws them (RandomGenerator in the loaders of SSL4MIS, MC-Net, SS-Net, BCP).
#pragma once

#include <cstdint>
#include <vector>

#include "io/batch.hpp"
#include "kernels/gather_slices.hpp"

namespace semivox::io {

/// How a slice gets the size of the patch.
enum class SliceFit {
  zoom,  ///< the whole slice, by nearest neighbour (kernels::zoom_table)
  crop,  ///< a random part of it; the centre with AugmentMode::none
};

/// Parses "zoom" or "crop"; throws UsageError otherwise.
SliceFit parse_slice_fit(const std::string& word);

/// What happens to a slice before the zoom or crop.
struct SliceAugmentation {
  int quarter_turns = 0;  ///< counter-clockwise: 1 is out[i][j] = in[j][width - 1 - i]
  int flip_axis = -1;     ///< 0 rows, 1 columns of the turned slice, -1 none
  int degrees = 0;        ///< of a rotation about the centre, which keeps the size and fills with 0
};

/// `rotflip`: a quarter turn 0 ... 3 and then always a flip of the rows or of the columns, so that the
/// outcome is one of four reflections. `rotate`: an integer angle, uniform in -20 ... 19 degrees.
/// `rotflip_rotate`: the first with probability 1/2, the second 1/4, nothing 1/4. `crop`, `none`: nothing.
SliceAugmentation draw_slice_augmentation(AugmentMode mode, RandomStream random);

/// The augmented slice brought to height x width: `sample` gets its geometry (its height and width are set
/// already), and the rows and columns are appended to `tables`. The crop pads the slice by the rule of
/// `draw_augmentation` when one of its axes is not longer than the patch; its start is drawn from `random`.
void place_slice(const SliceAugmentation& augmentation, SliceFit fit, AugmentMode mode, int64_t height,
                 int64_t width, RandomStream random, kernels::SliceSample& sample,
                 std::vector<int32_t>& tables);

/// Slice `index` of a case whose axis 0 counts slices.
struct SliceOfCase {
  const CachedCase* cached = nullptr;
  int64_t index = 0;
};

/// The slices as (N, C, 1, height, width), augmented by what `(seed, iteration, position in the batch)`
/// draws; on the device of the cases.
Batch make_slice_batch(const std::vector<SliceOfCase>& slices, int64_t height, int64_t width, SliceFit fit,
                       AugmentMode mode, uint64_t seed, uint64_t iteration);

}  // namespace semivox::io
