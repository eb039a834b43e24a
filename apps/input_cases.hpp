// The scans that a file or folder on the command line stands for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/dataset.hpp"

namespace semivox {

struct InputCase {
  std::string name;                ///< what outputs are called
  std::vector<std::string> files;  ///< one for each channel
};

/// One case for a file; one for each scan of a folder, in ASCII order. Scans are CASE.nii.gz, CASE.nii,
/// CASE.h5, CASE.png and, in folders of the field's HDF5 cases, CASE/mri_norm2.h5. With nnU-Net's channel
/// numbers a case is CASE_0000, CASE_0001, ...: the number is no part of the name, and exactly `channels`
/// files must be there; a picture may hold all three channels. A data set folder stands for its cases, or for
/// those of one `list`. Throws DataError for a missing path, a folder without scans, two files for one
/// channel, a missing or surplus channel.
std::vector<InputCase> list_input_cases(const std::string& input, int64_t channels,
                                        const std::string& list = "all");

/// True for a data set folder, one with a dataset.json.
bool is_dataset(const std::string& folder);

/// The words that stand for cases of a data set folder.
const std::vector<std::string>& case_lists();

/// All cases of a data set folder in ASCII order, or those that its splits.json lists as "validation" or
/// "test". Throws UsageError for a list with no case in it, DataError as `io::open_dataset`.
std::vector<io::CaseFiles> listed_cases(const io::DatasetFolder& folder, const std::string& list);

}  // namespace semivox
