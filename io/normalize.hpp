// Intensity normalisation of a whole scan.
#pragma once

#include <string>
#include <vector>

#include "io/volume.hpp"

namespace semivox::io {

struct Normalization {
  enum class Kind {
    none,
    zscore,           ///< (v - mean) / population standard deviation
    zscore_positive,  ///< the same with the statistics of the voxels > 0: skull-stripped heads
    minmax,           ///< (v - min) / (max - min)
    window,           ///< (v - low) / (high - low), clipped to 0...1
  };
  Kind kind = Kind::none;
  double low = 0, high = 1;  ///< of `window`
};

/// Parses "none", "zscore", "zscore_positive", "minmax" or "window:LOW:HIGH"; throws UsageError otherwise.
Normalization parse_normalization(const std::string& word);

/// Parses one word for all channels, or one per channel with commas between.
std::vector<Normalization> parse_normalizations(const std::string& words);

/// The words that `parse_normalizations` reads; "none" for an empty list.
std::string names_of(const std::vector<Normalization>& normalizations);

/// The word that `parse_normalization` reads.
std::string name_of(const Normalization& normalization);

/// The normalisation that nnU-Net's dataset.json asks for by the name of a channel: "noNorm" none,
/// "rescale_to_0_1" minmax, "rgb_to_0_1" (and the names "R", "G", "B") window:0:255, our own
/// "zscore_positive" that, anything else zscore. Throws UsageError for "CT", which needs an explicit window.
Normalization normalization_of_channel(const std::string& channel);

/// Normalises in place, with statistics in double over all voxels. A constant scan becomes 0 under zscore and
/// minmax, and zscore_positive leaves a scan without positive voxels as it is. Throws DataError naming `file`
/// and the first position when a voxel is NaN or infinite.
void normalize(Image& image, const Normalization& normalization, const std::string& file);

}  // namespace semivox::io
