#include "io/hdf5_cases.hpp"

#include <filesystem>

#include "engine/error.hpp"

namespace semivox::io {

std::map<std::string, std::string> hdf5_cases(const std::string& folder) {
  namespace fs = std::filesystem;
  std::map<std::string, std::string> cases;
  const auto add = [&](const std::string& id, const fs::path& file) {
    const auto [previous, is_new] = cases.emplace(id, file.string());
    if (!is_new)
      throw DataError(text("case ", id, ": found twice: ", previous->second, " and ", file.string()));
  };
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const fs::path& path = entry.path();
    if (entry.is_directory() && fs::is_regular_file(path / kFieldFile)) {
      add(path.filename().string(), path / kFieldFile);
    } else if (!entry.is_directory() && path.extension() == ".h5") {
      add(path.stem().string(), path);
    }
  }
  return cases;
}

}  // namespace semivox::io
