// Pictures of a segmentation over its scan, to see at a glance what a number stands for.
#pragma once

#include <string>

#include "io/volume.hpp"

namespace semivox::io {

/// Writes a PNG with one slice across each array axis, the one with the most foreground in the reference (in
/// the prediction when there is no reference or it is empty). Gray: the scan between its 2nd and 98th
/// percentile. Filled: the prediction, one colour per class. Lines: the outlines of the reference;
/// `reference` may be null. Below: the caption and a legend. Voxels keep their proportions (spacing) and
/// small volumes are enlarged. 2D scans give one panel. All shapes must be equal. Throws DataError when the
/// file cannot be written.
void write_overlay(const std::string& path, const Image& image, const LabelMap& prediction,
                   const LabelMap* reference, const std::string& caption);

}  // namespace semivox::io
