// The field's own files brought into data set folders (io/dataset_writer.hpp).
//
// All importers look for every file before they write the first one, refuse a folder that holds a data set
// already, and throw DataError naming file, found and expected.
#pragma once

#include <string>
#include <vector>

namespace semivox::io {

/// Case names of a list file as the field writes them: one per line, CR-LF or LF, a path in front and ".h5"
/// behind are dropped, and of slices (`patient001_frame01_slice_3`) their volume is named once, where the
/// first of them stands. Throws DataError when the file is missing or empty.
std::vector<std::string> read_case_names(const std::string& file);

struct ImportOptions {
  std::string from, out;
  std::string train, validation, test;  ///< list files; empty: none
  bool allow_missing = false;           ///< leave out cases that a list names and `from` does not have
};

/// HDF5 cases with `image` and `label`: FROM/CASE.h5 or FROM/CASE/mri_norm2.h5. Without a `train` list all
/// cases that the other lists do not name are for training.
struct ImportHdf5Options : ImportOptions {
  std::string name = "HDF5 cases";
  std::vector<std::string> class_names;   ///< background first
  bool reversed_axes = false;             ///< z, y, x, as SimpleITK has them; false: x, y, z
  double spacing = 1, slice_spacing = 1;  ///< mm, along x and y, and along z
};
void import_hdf5(const ImportHdf5Options& options);

/// The left-atrium files of UA-MT: CASE/mri_norm2.h5 in FROM or in a folder in it. Lists that are not given
/// are FROM/train.list and FROM/test.list when they are there. 0.625 mm.
void import_la(ImportOptions options);

/// ACDC, with the split of SSL4MIS (70 / 10 / 20 patients, both frames of each): either the challenge's
/// folders patientPPP/patientPPP_frameFF.nii.gz with patientPPP_frameFF_gt.nii.gz, whose two frames become
/// frame01 and frame02, or SSL4MIS' volumes patientPPP_frameFF.h5; in FROM or in a folder `training` or
/// `data` in it. Images keep their values; dataset.json asks for 0...1 per volume.
void import_acdc(const ImportOptions& options);

}  // namespace semivox::io
