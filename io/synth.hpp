// The synthetic data set: left-atrium MRI in small, for demonstrations and tests on any machine.
#pragma once

#include <cstdint>
#include <string>

#include "io/synth_folder.hpp"
#include "io/volume.hpp"

namespace semivox::io {

struct SynthOptions {
  int64_t cases = 24;
  Extent3 size{80, 80, 56};  ///< voxels, at least 16 along every axis
  uint64_t seed = 7;
  double spacing = 1.25;  ///< mm, all axes
};

/// Case 0, 1, ... of the set (label 1 in the atrium: body, appendage and the first stretch of the veins); a
/// pure function of (options, index), whatever the number of cases.
///
/// A bent ellipsoid with a lobe and 3 to 5 curved veins, varied in shape, size, place and orientation, among
/// chambers and vessels of about the same brightness, in body texture beside dark lung. The contrast, gain,
/// bias field and Rician noise (Gudbjartsson and Patz, Magnetic Resonance in Medicine 1995) differ between
/// cases.
SynthCase synthesize_case(const SynthOptions& options, int64_t index);

/// Writes the folder: dataset.json, splits.json (order; the last third is validation), imagesTr, labelsTr.
/// Throws UsageError for impossible options, DataError when the folder cannot be written or already holds a
/// data set.
void write_synthetic_dataset(const std::string& folder, const SynthOptions& options);

}  // namespace semivox::io
