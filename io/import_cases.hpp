// What the importers share: lists against files, writing the cases that the lists name, and HDF5 cases as
// NIfTI files.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "io/dataset_writer.hpp"
#include "io/import.hpp"

namespace semivox::io {

/// Throws DataError unless it is one.
void require_folder(const std::string& folder);

/// The cases of a list that are there (the keys of `cases`). Throws DataError for one that is not, unless
/// they may be missing.
std::vector<std::string> present(const std::vector<std::string>& names, const std::string& list,
                                 const std::map<std::string, std::string>& cases,
                                 const ImportOptions& options);

/// Order, validation and test from the list files of the options; without a train list all of `cases` that
/// the others do not name.
void read_lists(const ImportOptions& options, const std::map<std::string, std::string>& cases,
                DatasetLists& lists);

/// Makes the folder, calls `convert` for every case that the lists name, several at a time, and finishes it.
/// Throws DataError for a case that is named twice and for an empty training list.
void write_cases(DatasetLists lists, const ImportOptions& options,
                 const std::function<void(const std::string& id, const DatasetWriter&)>& convert);

/// Writes image and label of one HDF5 case as NIfTI files of `writer`.
void convert_hdf5(const std::string& id, const std::string& file, const ImportHdf5Options& options,
                  const DatasetWriter& writer);

}  // namespace semivox::io
