#include "kernels/algorithm_cache.hpp"

#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/atomic_file.hpp"
#include "engine/error.hpp"

namespace semivox::kernels {

namespace {

using Json = nlohmann::json;

bool is_choice(const Json& json) {
  return json.is_array() && json.size() == 2 && json[0].is_number_integer() && json[1].is_number_integer();
}

}  // namespace

AlgorithmCache::AlgorithmCache(std::string path) : path_(std::move(path)) { read(); }

void AlgorithmCache::read() {
  std::ifstream in(path_);
  if (!in) return;
  const Json json = Json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    problem_ = text(path_, ": expected a JSON object of measured algorithms; they are measured again");
    return;
  }
  for (const auto& [shape, choice] : json.items()) {
    if (!is_choice(choice)) {
      problem_ = text(path_, ": '", shape, "': found ", choice.dump(),
                      ", expected [algorithm, arithmetic]; it is measured again");
      continue;
    }
    choices_.try_emplace(shape, Choice{choice[0].get<int>(), choice[1].get<int>()});
  }
}

std::optional<AlgorithmCache::Choice> AlgorithmCache::find(const std::string& shape) const {
  const auto found = choices_.find(shape);
  if (found == choices_.end()) return std::nullopt;
  return found->second;
}

void AlgorithmCache::remember(const std::string& shape, Choice choice) {
  choices_[shape] = choice;
  if (path_.empty()) return;
  read();  // takes over the entries of other runs; those that are here already win
  write();
}

void AlgorithmCache::write() {
  Json json = Json::object();
  for (const auto& [shape, choice] : choices_) json[shape] = {choice.algorithm, choice.math};
  try {
    std::filesystem::create_directories(std::filesystem::path(path_).parent_path());
    write_file(path_, json.dump(1) + "\n");
  } catch (const std::exception& error) {  // a read-only home is no reason to stop a training
    problem_ = text(error.what(), "; measured algorithms are not kept");
    path_.clear();
  }
}

std::string algorithm_cache_path(const std::string& library, const std::string& gpu) {
  std::filesystem::path folder;
  if (const char* chosen = std::getenv("SEMIVOX_CACHE")) {
    folder = chosen;
  } else if (const char* caches = std::getenv("XDG_CACHE_HOME"); caches != nullptr && *caches != '\0') {
    folder = std::filesystem::path(caches) / "semivox";
  } else if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') {
    folder = std::filesystem::path(home) / ".cache" / "semivox";
  }
  if (folder.empty()) return "";
  std::string name = text(library, "-", gpu);
  for (char& letter : name) {
    const bool plain = std::isalnum(static_cast<unsigned char>(letter)) || letter == '.' || letter == '-';
    if (!plain) letter = '_';
  }
  return (folder / (name + ".json")).string();
}

}  // namespace semivox::kernels
