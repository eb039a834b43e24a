#include "io/dataset_writer.hpp"

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "engine/atomic_file.hpp"
#include "engine/error.hpp"

namespace semivox::io {

namespace fs = std::filesystem;

DatasetWriter::DatasetWriter(const std::string& folder) : folder_(folder) {
  if (folder.empty()) throw UsageError("--out: found '', expected a folder");
  if (fs::exists(folder + "/dataset.json")) {
    throw DataError(
        text(folder, ": already holds a data set (dataset.json), expected a new or empty folder"));
  }
  for (const char* name : {"/imagesTr", "/labelsTr"}) {
    std::error_code error;
    fs::create_directories(folder + name, error);
    if (error) throw DataError(text(folder, name, ": cannot be created: ", error.message()));
  }
}

std::string DatasetWriter::image_path(const std::string& id, int channel) const {
  char suffix[32];
  std::snprintf(suffix, sizeof suffix, "_%04d.nii.gz", channel);
  return folder_ + "/imagesTr/" + id + suffix;
}

std::string DatasetWriter::label_path(const std::string& id) const {
  return folder_ + "/labelsTr/" + id + ".nii.gz";
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
                                       {"file_ending", ".nii.gz"}};
  write_file(folder_ + "/dataset.json", dataset.dump(1) + "\n");
}

}  // namespace semivox::io
