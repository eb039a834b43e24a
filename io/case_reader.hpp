// The scans and labels of a case, whatever the format of their files.
#pragma once

#include <vector>

#include "io/dataset.hpp"
#include "io/slices.hpp"
#include "io/volume.hpp"

namespace semivox::io {

/// The channels in one file: one of a NIfTI or HDF5 file, one of a gray and three of a colour picture (.png,
/// its rows and columns are axes 1 and 2, its values 0 ... 255).
std::vector<Image> read_image_file(const std::string& file);

/// All channels of a case as floats, straight from its files. Throws DataError when they differ in shape.
std::vector<Image> read_case_channels(const CaseFiles& files);

/// A label map from a NIfTI, HDF5 or gray PNG file. Throws DataError for values outside 0 ... classes-1.
LabelMap read_label_file(const std::string& file, int classes);

/// The label of a case on the file's grid. Throws DataError when it has none, or as `read_label_file`.
LabelMap read_case_label(const CaseFiles& files, int classes);

/// Throws DataError naming both files and both shapes unless image and label lie on the same grid.
void require_same_shape(const CaseFiles& files, const Extent3& image, const Extent3& label);

/// How many slices every case of the folder has, read from the headers; 0 for cases that `of` does not name.
std::vector<int64_t> count_slices(const DatasetFolder& folder, const std::vector<int64_t>& of,
                                  SliceAxis axis);

/// "5x6x4".
std::string shape_text(const Extent3& shape);

}  // namespace semivox::io
