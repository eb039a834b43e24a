// Intensity normalisation of a whole scan.
#pragma once

#include <string>

#include "io/volume.hpp"

namespace semivox::io {

struct Normalization {
  enum class Kind {
    none,
    zscore,  ///< (v - mean) / population standard deviation
    minmax,  ///< (v - min) / (max - min)
    window,  ///< (v - low) / (high - low), clipped to 0...1
  };
  Kind kind = Kind::none;
  double low = 0, high = 1;  ///< of `window`
};

/// Parses "none", "zscore", "minmax" or "window:LOW:HIGH"; throws UsageError otherwise.
Normalization parse_normalization(const std::string& word);

/// The word that `parse_normalization` reads.
std::string name_of(const Normalization& normalization);

/// The normalisation that nnU-Net's dataset.json asks for by the name of a channel: "noNorm" none,
/// "rescale_to_0_1" minmax, anything else zscore. Throws UsageError for "CT", which needs an explicit window.
Normalization normalization_of_channel(const std::string& channel);

/// Normalises in place, with statistics in double over all voxels. A constant scan becomes 0 under zscore and
/// minmax. Throws DataError naming `file` and the first position when a voxel is NaN or infinite.
void normalize(Image& image, const Normalization& normalization, const std::string& file);

}  // namespace semivox::io
