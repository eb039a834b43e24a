#include "io/import_cases.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "engine/error.hpp"
#include "io/case_reader.hpp"
#include "io/hdf5.hpp"
#include "io/nifti.hpp"
#include "io/parallel_cases.hpp"

namespace semivox::io {
namespace {

/// Axes 0, 1, 2 become 2, 1, 0.
template <class T>
std::vector<T> reversed(const std::vector<T>& voxels, const Extent3& shape) {
  std::vector<T> result(voxels.size());
  for (int64_t i = 0; i < shape[0]; ++i) {
    for (int64_t j = 0; j < shape[1]; ++j) {
      for (int64_t k = 0; k < shape[2]; ++k) {
        result[(k * shape[1] + j) * shape[0] + i] = voxels[(i * shape[1] + j) * shape[2] + k];
      }
    }
  }
  return result;
}

}  // namespace

namespace fs = std::filesystem;

std::vector<std::string> read_case_names(const std::string& file) {
  std::ifstream in(file);
  if (!in) throw DataError(text(file, ": cannot be read, expected a list of cases"));
  std::vector<std::string> names;
  std::set<std::string> seen;
  for (std::string line; std::getline(in, line);) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\t'))
      line.pop_back();
    if (line.empty()) continue;
    std::string name = fs::path(line).filename().string();
    if (name.ends_with(".h5")) name.resize(name.size() - 3);
    const size_t slice = name.rfind("_slice_");
    if (slice != std::string::npos) {
      name.resize(slice);
      if (!seen.insert(name).second) continue;
    }
    names.push_back(name);
  }
  if (names.empty()) throw DataError(text(file, ": the list is empty, expected one case per line"));
  return names;
}

std::vector<std::string> present(const std::vector<std::string>& names, const std::string& list,
                                 const std::map<std::string, std::string>& cases,
                                 const ImportOptions& options) {
  std::vector<std::string> found, missing;
  for (const std::string& name : names) (cases.contains(name) ? found : missing).push_back(name);
  if (!missing.empty() && !options.allow_missing) {
    throw DataError(text(list, ": names ", names.size(), " cases, of which ", missing.size(), " are not in ",
                         options.from, ", the first is '", missing.front(),
                         "' (--allow-missing leaves them out)"));
  }
  return found;
}

void require_folder(const std::string& folder) {
  if (!fs::is_directory(folder)) throw DataError(text(folder, ": folder not found"));
}

void write_cases(DatasetLists lists, const ImportOptions& options,
                 const std::function<void(const std::string& id, const DatasetWriter&)>& convert) {
  std::set<std::string> unique;
  for (const auto* list : {&lists.order, &lists.validation, &lists.test}) {
    for (const std::string& id : *list) {
      if (!unique.insert(id).second)
        throw DataError(text("case '", id, "': named twice in the lists, expected once"));
    }
  }
  if (lists.order.empty()) throw DataError(text(options.from, ": no case for training found"));
  const std::vector<std::string> all(unique.begin(), unique.end());
  const DatasetWriter writer(options.out, all);
  lists.cases = static_cast<int64_t>(all.size());
  for_each_case(lists.cases, [&](int64_t i) { convert(all[static_cast<size_t>(i)], writer); });
  writer.finish(lists);
}

void read_lists(const ImportOptions& options, const std::map<std::string, std::string>& cases,
                DatasetLists& lists) {
  const auto names = [&](const std::string& list) {
    return list.empty() ? std::vector<std::string>() : present(read_case_names(list), list, cases, options);
  };
  lists.order = names(options.train);
  lists.validation = names(options.validation);
  lists.test = names(options.test);
  if (!options.train.empty()) return;
  const auto listed = [](const std::vector<std::string>& list, const std::string& id) {
    return std::find(list.begin(), list.end(), id) != list.end();
  };
  for (const auto& [id, file] : cases) {
    if (!listed(lists.validation, id) && !listed(lists.test, id)) lists.order.push_back(id);
  }
}

void convert_hdf5(const std::string& id, const std::string& file, const ImportHdf5Options& options,
                  const DatasetWriter& writer) {
  Image image = read_hdf5_image(file);
  image.geometry.spacing = {options.spacing, options.spacing, options.slice_spacing};
  const Extent3 shape = image.shape;
  const Extent3 turned{shape[2], shape[1], shape[0]};
  if (options.reversed_axes) image = {turned, reversed(image.voxels, shape), image.geometry};
  if (has_hdf5_labels(file)) {
    LabelMap label = read_hdf5_labels(file, static_cast<int>(options.class_names.size()));
    require_same_shape({id, {file}, file}, shape, label.shape);
    label.geometry = image.geometry;
    if (options.reversed_axes) label = {turned, reversed(label.voxels, shape), label.geometry};
    write_nifti_labels(writer.label_path(id), label);
  }
  write_nifti_image(writer.image_path(id), image);
}

}  // namespace semivox::io
