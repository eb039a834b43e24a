#include <filesystem>
#include <map>

#include "engine/error.hpp"
#include "io/hdf5.hpp"
#include "io/hdf5_cases.hpp"
#include "io/import.hpp"
#include "io/import_cases.hpp"

namespace semivox::io {

namespace fs = std::filesystem;

void import_hdf5(const ImportHdf5Options& options) {
  require_folder(options.from);
  const std::map<std::string, std::string> cases = hdf5_cases(options.from);
  if (cases.empty())
    throw DataError(text(options.from, ": no cases found, expected CASE.h5 or CASE/", kFieldFile));
  DatasetLists lists{options.name, {"noNorm"}, options.class_names, 0, {}, {}, {}};
  read_lists(options, cases, lists);
  write_cases(lists, options, [&](const std::string& id, const DatasetWriter& writer) {
    convert_hdf5(id, cases.at(id), options, writer);
  });
}

void import_la(ImportOptions options) {
  require_folder(options.from);
  const auto use_list = [&](std::string& list, const char* name) {
    const std::string beside = (fs::path(options.from) / name).string();
    if (list.empty() && fs::exists(beside)) list = beside;
  };
  use_list(options.train, "train.list");
  use_list(options.test, "test.list");
  std::string from = options.from;
  if (hdf5_cases(from).empty()) {
    for (const fs::directory_entry& entry : fs::directory_iterator(options.from)) {
      if (!entry.is_directory() || hdf5_cases(entry.path().string()).empty()) continue;
      if (from != options.from)
        throw DataError(text(options.from, ": found cases in ", from, " and in ", entry.path().string(),
                             ", expected one folder of cases"));
      from = entry.path().string();
    }
  }
  options.from = from;
  ImportHdf5Options hdf5;
  static_cast<ImportOptions&>(hdf5) = options;
  hdf5.name = "LA";
  hdf5.class_names = {"background", "left_atrium"};
  hdf5.spacing = hdf5.slice_spacing = 0.625;
  import_hdf5(hdf5);
}

}  // namespace semivox::io
