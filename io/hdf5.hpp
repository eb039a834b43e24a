// HDF5 cases in the field's form: one file per case with the datasets `image` and, where known, `label`. They
// carry no geometry. https://docs.hdfgroup.org/hdf5
#pragma once

#include <string>

#include "io/volume.hpp"

namespace semivox::io {

/// Reads the dataset `image`: integers or floats, 3D or 2D (which becomes {1, H, W}). Throws DataError when
/// the file or the dataset is missing or unreadable, has another type or number of axes, or contains NaN or
/// infinity.
Image read_hdf5_image(const std::string& path);

/// The shape of the dataset `image` alone; throws DataError as above.
Extent3 read_hdf5_shape(const std::string& path);

/// Reads the dataset `label` in the same way; throws DataError for values other than integers 0 ...
/// classes-1.
LabelMap read_hdf5_labels(const std::string& path, int classes);

/// Whether the file has a dataset `label`.
bool has_hdf5_labels(const std::string& path);

/// Writes `image` as float32 and, unless null, `labels` as uint8, both gzip-compressed, atomically.
void write_hdf5_case(const std::string& path, const Image& image, const LabelMap* labels);

}  // namespace semivox::io
