// A data set folder in nnU-Net's layout: what cases there are, which of them have labels, and in which order
// they count.
//
//   DIR/dataset.json                 channel_names, labels (name -> value), numTraining, file_ending
//   DIR/imagesTr/CASE_0000.nii.gz    one image per case and channel; CASE_0001 is the second channel
//
//   DIR/labelsTr/CASE.nii.gz         its label; a case without one is unlabelled
//
//   DIR/splits.json                  optional: order, validation and test, each a list of cases
//
// With file_ending ".h5" a case is one HDF5 file CASE.h5 or CASE/mri_norm2.h5 (in DIR or in DIR/imagesTr)
// that holds the data sets `image` and, unless the case is unlabelled, `label`. With ".png" a case is a 2D
// picture: one colour picture CASE_0000.png for three channels, otherwise one gray picture per channel.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace semivox::io {

struct CaseFiles {
  std::string id;
  std::vector<std::string> images;  ///< one per channel; a single HDF5 file or colour picture holds them all
  std::string label;                ///< path of the label (the same HDF5 file), empty for an unlabelled case
};

struct DatasetFolder {
  std::string path;
  std::string name;
  std::string file_ending;               ///< ".nii.gz", ".nii", ".h5" or ".png"
  std::vector<std::string> channels;     ///< their names; nnU-Net derives the normalisation from them
  std::vector<std::string> class_names;  ///< by label value, background first
  std::vector<CaseFiles> cases;          ///< every case of the folder, in ASCII order of the ids
  std::vector<int64_t> training;         ///< indices into `cases`, in training order
  std::vector<int64_t> validation;       ///< left out of training and scored
  std::vector<int64_t> test;             ///< left out of training

  int classes() const { return static_cast<int>(class_names.size()); }
};

/// Reads the folder's lists; opens no image (HDF5 cases are asked whether they hold a `label`).
///
/// Training order: `order` of splits.json without its validation and test cases; ASCII order of the ids
/// without `order`. Cases that splits.json names nowhere take no part. Throws DataError for anything missing
/// or contradictory: folder or file, fields, label values that are not 0 ... n-1, a label without image,
/// duplicate or unknown cases.
DatasetFolder open_dataset(const std::string& path);

}  // namespace semivox::io
