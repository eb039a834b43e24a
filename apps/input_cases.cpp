#include "apps/input_cases.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>

#include "engine/error.hpp"
#include "io/hdf5_cases.hpp"

namespace semivox {
namespace fs = std::filesystem;
namespace {

constexpr const char* kPictureEnding = ".png";

/// The name of a scan without its ending; nothing for files that are no scans.
std::optional<std::string> stem_of(const fs::path& path) {
  const std::string name = path.filename().string();
  if (name == io::kFieldFile) return fs::absolute(path).parent_path().filename().string();
  for (const char* ending : {".nii.gz", ".nii", ".h5", kPictureEnding}) {
    if (name.ends_with(ending) && name.front() != '.')
      return name.substr(0, name.size() - std::string(ending).size());
  }
  return std::nullopt;
}

struct ChannelName {
  std::string name;
  int64_t channel;
};

/// CASE and n of CASE_<n>, n with four digits.
std::optional<ChannelName> numbered(const std::string& stem) {
  if (stem.size() < 6 || stem[stem.size() - 5] != '_') return std::nullopt;
  const std::string digits = stem.substr(stem.size() - 4);
  if (digits.find_first_not_of("0123456789") != std::string::npos) return std::nullopt;
  return ChannelName{stem.substr(0, stem.size() - 5), std::stoll(digits)};
}

bool is_picture(const fs::path& path) { return path.extension() == kPictureEnding; }

/// Scans of a folder: files, and the field's one file per subfolder. Beside other scans pictures are none:
/// they show something.
std::vector<fs::path> scans_of_folder(const fs::path& folder) {
  std::vector<fs::path> scans;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory() && fs::is_regular_file(entry.path() / io::kFieldFile)) {
      scans.push_back(entry.path() / io::kFieldFile);
    } else if (!entry.is_directory() && stem_of(entry.path())) {
      scans.push_back(entry.path());
    }
  }
  if (!std::all_of(scans.begin(), scans.end(), is_picture)) std::erase_if(scans, is_picture);
  if (scans.empty()) {
    throw DataError(text(folder.string(), ": no .nii.gz, .nii, .h5 or .png file in the input folder"));
  }
  return scans;
}

/// The scans of the same case as `file`, itself included: the other channels stand beside it.
std::vector<fs::path> scans_of_file(const fs::path& file, int64_t channels) {
  const auto stem = stem_of(file);
  if (!stem) throw DataError(text(file.string(), ": expected a .nii.gz, .nii, .h5 or .png file"));
  const auto own = numbered(*stem);
  if (channels == 1 || !own) return {file};
  std::vector<fs::path> scans;
  for (const fs::path& scan : scans_of_folder(fs::absolute(file).parent_path())) {
    const auto other = numbered(*stem_of(scan));
    if (other && other->name == own->name) scans.push_back(scan);
  }
  return scans;
}

std::vector<InputCase> cases_of_dataset(const std::string& input, int64_t channels, const std::string& list) {
  const io::DatasetFolder folder = io::open_dataset(input);
  const auto found = static_cast<int64_t>(folder.channels.size());
  if (found != channels) {
    throw DataError(text(input, "/dataset.json: ", found, found == 1 ? " channel" : " channels",
                         ", expected ", channels, " (the network's)"));
  }
  std::vector<InputCase> result;
  for (const io::CaseFiles& one : listed_cases(folder, list)) result.push_back({one.id, one.images});
  return result;
}

}  // namespace

bool is_dataset(const std::string& folder) { return fs::is_regular_file(fs::path(folder) / "dataset.json"); }

const std::vector<std::string>& case_lists() {
  static const std::vector<std::string> lists{"all", "validation", "test"};
  return lists;
}

std::vector<io::CaseFiles> listed_cases(const io::DatasetFolder& folder, const std::string& list) {
  if (list == "all") return folder.cases;
  std::vector<io::CaseFiles> cases;
  for (const int64_t index : list == "test" ? folder.test : folder.validation)
    cases.push_back(folder.cases[static_cast<size_t>(index)]);
  if (cases.empty()) throw UsageError(text("--list: ", folder.path, "/splits.json lists no ", list, " case"));
  return cases;
}

std::vector<InputCase> list_input_cases(const std::string& input, int64_t channels, const std::string& list) {
  if (!fs::exists(input)) throw DataError(text(input, ": the input does not exist"));
  if (is_dataset(input)) return cases_of_dataset(input, channels, list);
  if (list != "all")
    throw UsageError(text("--list: ", input, " is no data set folder (it has no dataset.json)"));
  const std::vector<fs::path> scans =
      fs::is_directory(input) ? scans_of_folder(input) : scans_of_file(input, channels);

  std::map<std::string, std::map<int64_t, std::string>> cases;
  const auto add = [&](const std::string& name, int64_t channel, const std::string& file) {
    const auto [position, is_new] = cases[name].emplace(channel, file);
    if (!is_new) {
      throw DataError(
          text(position->second, " and ", file, ": two files for channel ", channel, " of case ", name));
    }
  };
  std::vector<fs::path> plain;  // their names may end in any number
  for (const fs::path& scan : scans) {
    const auto found = numbered(*stem_of(scan));
    if (found && (channels > 1 || found->channel == 0)) {
      add(found->name, found->channel, scan.string());
    } else {
      plain.push_back(scan);
    }
  }
  for (const fs::path& scan : plain) {
    const std::string stem = *stem_of(scan);
    const auto found = numbered(stem);
    // Beside CASE_0000, CASE_0001 is a second channel; alone it is a name.
    const bool second = found && cases.contains(found->name);
    add(second ? found->name : stem, second ? found->channel : 0, scan.string());
  }

  std::vector<InputCase> result;
  for (const auto& [name, files] : cases) {
    InputCase one{name, {}};
    for (const auto& [channel, file] : files) {
      if (channel >= channels) {
        throw DataError(text(file, ": channel ", channel, " of case ", name, ", expected ", channels,
                             channels == 1 ? " channel" : " channels", " (the network's)"));
      }
      one.files.push_back(file);
    }
    const bool colour = channels == 3 && one.files.size() == 1 && is_picture(one.files.front());
    if (static_cast<int64_t>(one.files.size()) != channels && !colour) {
      throw DataError(text(one.files.front(), ": case ", name, " has ", one.files.size(), " of ", channels,
                           " channels, expected files ", name, "_0000 and so on"));
    }
    result.push_back(std::move(one));
  }
  return result;
}

}  // namespace semivox
