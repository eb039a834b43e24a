// HDF5 cases of a folder, as the field's data sets come.
#pragma once

#include <map>
#include <string>

namespace semivox::io {

/// The one file of a case that has a folder of its own.
constexpr const char* kFieldFile = "mri_norm2.h5";

/// Case name -> file, for CASE.h5 and CASE/mri_norm2.h5 in `folder`. Throws DataError when a case has both.
std::map<std::string, std::string> hdf5_cases(const std::string& folder);

}  // namespace semivox::io
