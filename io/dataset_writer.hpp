// Writes a data set folder in nnU-Net's layout, case by case.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace semivox::io {

/// What dataset.json and splits.json say.
struct DatasetLists {
  std::string name;
  std::vector<std::string> channels;
  std::vector<std::string> class_names;  ///< background first
  int64_t cases = 0;                     ///< in the folder
  std::vector<std::string> order, validation, test;
};

/// A folder becomes a data set when `finish` writes dataset.json, the last file: one that was not finished is
/// none, and the same command completes it.
class DatasetWriter {
 public:
  /// Makes DIR/imagesTr and DIR/labelsTr. Throws DataError when the folder cannot be made, already holds a
  /// data set, or holds a file of another case than `cases`, which would become part of this one.
  DatasetWriter(const std::string& folder, const std::vector<std::string>& cases);

  std::string image_path(const std::string& id, int channel = 0) const;  ///< imagesTr/ID_0000.nii.gz
  std::string label_path(const std::string& id) const;                   ///< labelsTr/ID.nii.gz

  /// Writes splits.json, then dataset.json.
  void finish(const DatasetLists& lists) const;

 private:
  std::string folder_;
};

}  // namespace semivox::io
