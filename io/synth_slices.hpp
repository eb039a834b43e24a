// The synthetic set for 2D networks: short-axis heart MRI in small, a few slices per case, up to four
// classes.
#pragma once

#include <cstdint>
#include <string>

#include "io/synth_folder.hpp"

namespace semivox::io {

struct SynthSlicesOptions {
  int64_t cases = 24;
  Extent3 size{96, 96, 6};  ///< pixels of a slice, at least 32, and slices
  int64_t classes = 4;  ///< 4: right ventricle 1, myocardium 2, left ventricle 3; 3 without the first; 2 left
                        ///< ventricle alone
  uint64_t seed = 7;
  double spacing = 1.5;  ///< mm in the plane; slices are 8 mm apart
};

/// Case 0, 1, ... of the set; a pure function of (options, index), whatever the number of cases.
///
/// A left ventricle with papillary muscles in a ring of myocardium, beside it the crescent of the right
/// ventricle; from the first slice to the last they taper and the right ventricle vanishes. Size, place,
/// orientation, outline, wall and the cut differ between cases, the place a little also between slices. Round
/// and ring-shaped look-alikes of the same brightness stand around, and contrast, texture, gain, bias field
/// and noise differ between cases.
SynthCase synthesize_slices(const SynthSlicesOptions& options, int64_t index);

/// Writes the folder: dataset.json, splits.json (order; the last third is validation), imagesTr, labelsTr,
/// the slices along the last axis. Throws UsageError for impossible options, DataError when the folder cannot
/// be written or already holds a data set.
void write_synthetic_slices(const std::string& folder, const SynthSlicesOptions& options);

}  // namespace semivox::io
