#include "io/dataset.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/error.hpp"
#include "io/hdf5.hpp"
#include "io/hdf5_cases.hpp"

namespace semivox::io {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json read_json(const std::string& file) {
  std::ifstream in(file);
  if (!in || !fs::is_regular_file(file))
    throw DataError(text(file, ": cannot be read, expected a JSON file"));
  json value;
  try {
    value = json::parse(in);
  } catch (const json::exception& error) {
    throw DataError(text(file, ": not valid JSON: ", error.what()));
  }
  if (!value.is_object()) throw DataError(text(file, ": found ", value.type_name(), ", expected an object"));
  return value;
}

const json& field(const std::string& file, const json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) throw DataError(text(file, ": field '", name, "' is missing"));
  return *found;
}

std::string string_field(const std::string& file, const json& object, const char* name) {
  const json& value = field(file, object, name);
  if (!value.is_string()) {
    throw DataError(text(file, ": field '", name, "': found ", value.dump(), ", expected a string"));
  }
  return value.get<std::string>();
}

/// Class names by value from `labels` {"background": 0, "left_atrium": 1, ...}.
std::vector<std::string> read_class_names(const std::string& file, const json& dataset) {
  const json& labels = field(file, dataset, "labels");
  if (!labels.is_object() || labels.size() < 2) {
    throw DataError(text(file, ": field 'labels': found ", labels.dump(),
                         ", expected an object with background and at least one class"));
  }
  const int64_t classes = static_cast<int64_t>(labels.size());
  if (classes > 256)
    throw DataError(text(file, ": field 'labels': found ", classes, " classes, expected at most 256"));
  std::vector<std::string> names(labels.size());
  for (const auto& [name, value] : labels.items()) {
    if (!value.is_number_integer() || value.get<int64_t>() < 0 || value.get<int64_t>() >= classes) {
      throw DataError(text(file, ": field 'labels.", name, "': found ", value.dump(),
                           ", expected an integer in 0...", classes - 1,
                           " (values without gaps; regions and an ignore label are not supported)"));
    }
    std::string& slot = names[value.get<size_t>()];
    if (!slot.empty()) {
      throw DataError(
          text(file, ": field 'labels': '", slot, "' and '", name, "' both have the value ", value.dump()));
    }
    slot = name;
  }
  const auto background = std::find(names.begin() + 1, names.end(), "background");
  if (background != names.end()) {
    throw DataError(text(file, ": field 'labels.background': found ", background - names.begin(),
                         ", expected 0; class 0 is left out of every score"));
  }
  return names;
}

/// Channel names by number from `channel_names` {"0": "FLAIR", "1": "T1", ...}.
std::vector<std::string> read_channels(const std::string& file, const json& dataset) {
  const json& channels = field(file, dataset, "channel_names");
  std::vector<std::string> names;
  if (channels.is_object()) {
    for (size_t c = 0; c < channels.size(); ++c) {
      const auto found = channels.find(text(c));
      if (found != channels.end() && found->is_string()) names.push_back(found->get<std::string>());
    }
  }
  if (names.empty() || names.size() != channels.size()) {
    throw DataError(text(file, ": field 'channel_names': found ", channels.dump(),
                         ", expected a name for each channel 0, 1, ...: {\"0\": \"NAME\"}"));
  }
  return names;
}

std::vector<std::string> sorted_entries(const fs::path& folder) {
  if (!fs::is_directory(folder)) throw DataError(text(folder.string(), ": folder not found"));
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.front() != '.') names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// "_0000.nii.gz" for channel 0.
std::string channel_suffix(size_t channel, const std::string& ending) {
  const std::string digits = text(channel);
  return text("_", std::string(digits.size() < 4 ? 4 - digits.size() : 0, '0'), digits, ending);
}

/// Cases of `channels` files each from imagesTr, and labelsTr; files with another ending are no part of the
/// data set.
std::vector<CaseFiles> list_image_cases(const fs::path& root, const std::string& ending, size_t channels) {
  const fs::path images = root / "imagesTr", labels = root / "labelsTr";
  std::set<std::string> with_label;
  if (fs::exists(labels)) {
    for (const std::string& name : sorted_entries(labels)) {
      if (name.ends_with(ending)) with_label.insert(name.substr(0, name.size() - ending.size()));
    }
  }
  std::map<std::string, std::map<size_t, std::string>> files;  // id -> channel -> file
  for (const std::string& name : sorted_entries(images)) {
    if (!name.ends_with(ending)) continue;
    size_t channel = 0;
    while (channel < channels && !name.ends_with(channel_suffix(channel, ending))) ++channel;
    const std::string suffix = channel_suffix(channel, ending);
    if (channel == channels || name.size() == suffix.size()) {
      throw DataError(text((images / name).string(), ": unexpected name, expected CASE",
                           channel_suffix(0, ending),
                           channels > 1 ? " to CASE" + channel_suffix(channels - 1, ending) : ""));
    }
    files[name.substr(0, name.size() - suffix.size())][channel] = (images / name).string();
  }
  std::vector<CaseFiles> cases;
  for (const auto& [id, by_channel] : files) {
    CaseFiles one{id, {}, ""};
    for (size_t channel = 0; channel < channels; ++channel) {
      const auto found = by_channel.find(channel);
      if (found == by_channel.end()) {
        throw DataError(text((images / (id + channel_suffix(channel, ending))).string(),
                             ": file not found, expected ", channels, " channels of case ", id));
      }
      one.images.push_back(found->second);
    }
    if (with_label.erase(id) > 0) one.label = (labels / (id + ending)).string();
    cases.push_back(std::move(one));
  }
  if (!with_label.empty()) {
    const std::string& id = *with_label.begin();
    throw DataError(text((labels / (id + ending)).string(), ": label without image, expected ",
                         (images / (id + channel_suffix(0, ending))).string()));
  }
  return cases;
}

/// Three channels may be one colour picture each: there is no second file for any case.
size_t files_per_case(const fs::path& root, size_t channels) {
  if (channels != 3) return channels;
  for (const std::string& name : sorted_entries(root / "imagesTr")) {
    if (name.ends_with(channel_suffix(1, ".png"))) return channels;
  }
  return 1;
}

/// A damaged file counts as labelled: reading it says what is wrong, and `data check` lists all such files.
bool may_hold_labels(const std::string& file) {
  try {
    return has_hdf5_labels(file);
  } catch (const DataError&) {
    return true;
  }
}

std::vector<CaseFiles> list_hdf5_cases(const fs::path& root) {
  const fs::path folder = fs::is_directory(root / "imagesTr") ? root / "imagesTr" : root;
  std::vector<CaseFiles> cases;
  for (const auto& [id, file] : hdf5_cases(folder.string()))
    cases.push_back({id, {file}, may_hold_labels(file) ? file : ""});
  return cases;
}

/// Indices of the cases that `name` of splits.json lists.
std::vector<int64_t> read_case_list(const std::string& file, const json& splits, const char* name,
                                    const DatasetFolder& folder) {
  std::vector<int64_t> indices;
  const auto list = splits.find(name);
  if (list == splits.end()) return indices;
  if (!list->is_array()) {
    throw DataError(
        text(file, ": field '", name, "': found ", list->type_name(), ", expected a list of cases"));
  }
  std::set<std::string> seen;
  for (const json& entry : *list) {
    if (!entry.is_string()) {
      throw DataError(
          text(file, ": field '", name, "': found ", entry.dump(), ", expected the name of a case"));
    }
    const auto id = entry.get<std::string>();
    const auto found = std::lower_bound(folder.cases.begin(), folder.cases.end(), id,
                                        [](const CaseFiles& a, const std::string& b) { return a.id < b; });
    if (found == folder.cases.end() || found->id != id) {
      throw DataError(
          text(file, ": field '", name, "' names the case '", id, "', which is not in ", folder.path));
    }
    if (!seen.insert(id).second)
      throw DataError(text(file, ": field '", name, "' names the case '", id, "' twice"));
    indices.push_back(found - folder.cases.begin());
  }
  return indices;
}

bool contains(const std::vector<int64_t>& list, int64_t value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

void read_splits(const std::string& file, DatasetFolder& folder) {
  // A link that leads nowhere is an error, not a data set without splits.
  const json splits = fs::exists(file) || fs::is_symlink(file) ? read_json(file) : json::object();
  // Notes may stand here, but no list under a misspelt name.
  for (const auto& [name, value] : splits.items()) {
    const bool known = name == "order" || name == "validation" || name == "test";
    if (value.is_array() && !known) {
      throw DataError(
          text(file, ": found a list '", name, "', expected lists named order, validation and test"));
    }
  }
  folder.validation = read_case_list(file, splits, "validation", folder);
  folder.test = read_case_list(file, splits, "test", folder);
  for (const int64_t index : folder.validation) {
    const CaseFiles& held_out = folder.cases[index];
    if (contains(folder.test, index)) {
      throw DataError(text(file, ": case '", held_out.id, "' is named by both 'validation' and 'test'"));
    }
    if (held_out.label.empty()) {
      throw DataError(
          text(file, ": validation case '", held_out.id, "' has no label file, expected one to score with"));
    }
  }
  std::vector<int64_t> order = read_case_list(file, splits, "order", folder);
  if (!splits.contains("order")) {
    for (int64_t i = 0; i < static_cast<int64_t>(folder.cases.size()); ++i) order.push_back(i);
  }
  for (const int64_t index : order) {
    if (!contains(folder.validation, index) && !contains(folder.test, index))
      folder.training.push_back(index);
  }
  if (folder.training.empty()) throw DataError(text(file, ": no case is left for training"));
}

}  // namespace

DatasetFolder open_dataset(const std::string& path) {
  if (!fs::is_directory(path)) throw DataError(text(path, ": data set folder not found"));
  const std::string file = (fs::path(path) / "dataset.json").string();
  const json dataset = read_json(file);
  DatasetFolder folder;
  folder.path = path;
  folder.name =
      dataset.contains("name") ? string_field(file, dataset, "name") : fs::path(path).filename().string();
  folder.file_ending = string_field(file, dataset, "file_ending");
  folder.channels = read_channels(file, dataset);
  folder.class_names = read_class_names(file, dataset);
  const size_t channels = folder.channels.size();
  if (folder.file_ending == ".h5") {
    if (channels > 1) {
      throw DataError(text(file, ": field 'channel_names': found ", channels,
                           " channels, expected one with file_ending .h5"));
    }
    folder.cases = list_hdf5_cases(path);
  } else if (folder.file_ending == ".nii.gz" || folder.file_ending == ".nii") {
    folder.cases = list_image_cases(path, folder.file_ending, channels);
  } else if (folder.file_ending == ".png") {
    folder.cases = list_image_cases(path, folder.file_ending, files_per_case(path, channels));
  } else {
    throw DataError(text(file, ": field 'file_ending': found '", folder.file_ending,
                         "', expected .nii.gz, .nii, .h5 or .png"));
  }
  if (folder.cases.empty()) {
    throw DataError(text(path, ": no cases found, expected ",
                         folder.file_ending == ".h5" ? "CASE.h5 or CASE/mri_norm2.h5"
                                                     : "imagesTr/CASE_0000" + folder.file_ending));
  }
  std::sort(folder.cases.begin(), folder.cases.end(),
            [](const auto& a, const auto& b) { return a.id < b.id; });

  const json& count = field(file, dataset, "numTraining");
  const auto images = static_cast<int64_t>(folder.cases.size());
  const int64_t labels =
      std::count_if(folder.cases.begin(), folder.cases.end(), [](const auto& c) { return !c.label.empty(); });
  if (!count.is_number_integer() || (count.get<int64_t>() != images && count.get<int64_t>() != labels)) {
    throw DataError(text(file, ": field 'numTraining': found ", count.dump(),
                         ", expected the number of cases in the folder: ", images, " images, ", labels,
                         " of them with a label"));
  }
  read_splits((fs::path(path) / "splits.json").string(), folder);
  return folder;
}

}  // namespace semivox::io
