// NIfTI-1 and NIfTI-2 files (.nii, .nii.gz): https://nifti.nimh.nih.gov. Header layout and byte swapping come
// from libnifti; the voxels are read here, because the library turns NaNs into zeros without a word.
//
// Array axes 0, 1, 2 are NIfTI's i, j, k. A 2D file is {1, ni, nj}; 4D and more is accepted when the further
// axes have size 1. Readers throw DataError naming file, field, found and expected for missing, truncated or
// damaged files, other formats, header and image in two files, RGB, complex and 128-bit voxels, wrong sizes,
// and voxels that are NaN or infinite.
#pragma once

#include <string>

#include "io/stored_image.hpp"
#include "io/volume.hpp"

namespace semivox::io {

/// The shape alone, from the header.
Extent3 read_nifti_shape(const std::string& path);

/// Reads a scan as floats, scl_slope and scl_inter applied (a slope of 0 means none). Equals
/// `decode(read_nifti_stored(path))`.
Image read_nifti_image(const std::string& path);

/// Reads a scan in compact form. Integer voxels stay as they are, as u8 when the file has u8, as i16 when
/// their values fit, with slope and intercept rounded to float. All others become f32, scaled in double and
/// rounded once.
StoredImage read_nifti_stored(const std::string& path);

/// Reads a label map; throws DataError for values other than integers 0 ... classes-1 (at most 256 classes).
LabelMap read_nifti_labels(const std::string& path, int classes);

/// Writes a label map as uint8, atomically, gzip-compressed when the name ends in .nii.gz (otherwise it ends
/// in .nii). The header is the one in `labels.geometry`, with the fields for data type, scaling and display
/// range changed, or, when there is none, NIfTI-1 with axes along the world's and the spacing given. Header
/// extensions are not kept.
void write_nifti_labels(const std::string& path, const LabelMap& labels);

/// Writes a scan in its compact form, slope and intercept in the header, in the same way.
void write_nifti_stored(const std::string& path, const StoredImage& image);

/// Writes a scan as float32, in the same way.
void write_nifti_image(const std::string& path, const Image& image);

}  // namespace semivox::io
