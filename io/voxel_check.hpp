// What every reader of scans and label maps demands of the voxels, whatever the file format.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "io/volume.hpp"

namespace semivox::io {

/// Throws DataError with the count and the first position when voxels of the file `path` are NaN or infinite.
void require_finite(const std::string& path, std::span<const float> voxels, const Extent3& shape);

/// The label map of `values`; throws DataError with value and position unless all are integers 0 ...
/// classes-1. `classes` is at most 256.
std::vector<uint8_t> labels_from_values(const std::string& path, std::span<const double> values,
                                        const Extent3& shape, int classes);

}  // namespace semivox::io
