#include "io/dataset_writer.hpp"

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/atomic_file.hpp"
#include "engine/error.hpp"

namespace semivox::io {

namespace fs = std::filesystem;

namespace {

constexpr const char* kEnding = ".nii.gz";

/// Throws DataError for a file in `part` of the folder that belongs to none of the cases.
void refuse_other_files(const std::string& part, const std::set<std::string>& cases) {
  for (const fs::directory_entry& entry : fs::directory_iterator(part)) {
    std::string name = entry.path().filename().string();
    if (name.front() == '.') continue;
    if (name.ends_with(kEnding)) name.erase(name.rfind(kEnding));
    const std::string without_channel = name.substr(0, name.rfind('_'));
    if (cases.contains(name) || cases.contains(without_channel)) continue;
    throw DataError(
        text(entry.path().string(), ": is no file of this data set, expected a new or empty folder"));
  }
}

}  // namespace

DatasetWriter::DatasetWriter(const std::string& folder, const std::vector<std::string>& cases)
    : folder_(folder) {
  if (folder.empty()) throw UsageError("--out: found '', expected a folder");
  if (fs::exists(folder + "/dataset.json")) {
    throw DataError(
        text(folder, ": already holds a data set (dataset.json), expected a new or empty folder"));
  }
  for (const char* name : {"/imagesTr", "/labelsTr"}) {
    std::error_code error;
    fs::create_directories(folder + name, error);
    if (error) throw DataError(text(folder, name, ": cannot be created: ", error.message()));
    refuse_other_files(folder + name, {cases.begin(), cases.end()});
  }
}

std::string DatasetWriter::image_path(const std::string& id, int channel) const {
  char suffix[32];
  std::snprintf(suffix, sizeof suffix, "_%04d%s", channel, kEnding);
  return folder_ + "/imagesTr/" + id + suffix;
}

std::string DatasetWriter::label_path(const std::string& id) const {
  return folder_ + "/labelsTr/" + id + kEnding;
}

void DatasetWriter::finish(const DatasetLists& lists) const {
  nlohmann::ordered_json splits{{"order", lists.order}, {"validation", lists.validation}};
  if (!lists.test.empty()) splits["test"] = lists.test;
  write_file(folder_ + "/splits.json", splits.dump(1) + "\n");
  nlohmann::ordered_json channels = nlohmann::ordered_json::object(), labels = channels;
  for (size_t c = 0; c < lists.channels.size(); ++c) channels[text(c)] = lists.channels[c];
  for (size_t k = 0; k < lists.class_names.size(); ++k) labels[lists.class_names[k]] = k;
  const nlohmann::ordered_json dataset{{"name", lists.name},
                                       {"channel_names", channels},
                                       {"labels", labels},
                                       {"numTraining", lists.cases},
                                       {"file_ending", kEnding}};
  write_file(folder_ + "/dataset.json", dataset.dump(1) + "\n");
}

}  // namespace semivox::io
