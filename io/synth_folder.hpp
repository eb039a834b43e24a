// The data set folder that a synthetic set is written to.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "io/stored_image.hpp"
#include "io/volume.hpp"

namespace semivox::io {

struct SynthCase {
  StoredImage image;  ///< i16
  LabelMap label;
};

struct SynthFolder {
  std::string name, channel;             ///< for dataset.json
  std::vector<std::string> class_names;  ///< background first
  int64_t cases = 0;
};

/// Writes imagesTr, labelsTr, splits.json (order; the last third is validation) and at last dataset.json, the
/// cases several at a time. Throws DataError when the folder cannot be written or already holds a data set.
void write_synth_folder(const std::string& folder, const SynthFolder& description,
                        const std::function<SynthCase(int64_t)>& make_case);

}  // namespace semivox::io
