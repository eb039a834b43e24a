// Convolution algorithms that were measured before, kept in a file from run to run.
//
// Timing every algorithm for every layer shape takes a GPU seconds to minutes at the start of a training.
// What was found holds as long as the library and the GPU stay the same, so both are part of the file's name.
// A second run also takes the same algorithms as the first, and with them rounds the same way.
#pragma once

#include <map>
#include <optional>
#include <string>

namespace semivox::kernels {

/// A table from a layer's description to the algorithm that won, in a small JSON file. Nothing that happens
/// to the file stops a run: without it the algorithms are measured again.
class AlgorithmCache {
 public:
  struct Choice {
    int algorithm = 0;  ///< the library's number for it
    int math = 0;       ///< the library's number for the kind of arithmetic
    bool operator==(const Choice&) const = default;
  };

  /// Reads `path`; an empty path means that nothing is kept beyond this run. A missing file is an empty
  /// table.
  explicit AlgorithmCache(std::string path);

  std::optional<Choice> find(const std::string& shape) const;

  /// Adds or replaces an entry and writes the file, atomically, together with what other runs have added to
  /// it in the meantime.
  void remember(const std::string& shape, Choice choice);

  /// Why the file could not be used (what is wrong and where), "" when nothing went wrong.
  const std::string& problem() const { return problem_; }

 private:
  void read();
  void write();

  std::string path_;
  std::map<std::string, Choice> choices_;
  std::string problem_;
};

/// The file for a library version and a GPU: in the folder that the environment variable SEMIVOX_CACHE names,
/// else $XDG_CACHE_HOME/semivox, else ~/.cache/semivox. SEMIVOX_CACHE set to nothing, or no home: "".
std::string algorithm_cache_path(const std::string& library, const std::string& gpu);

}  // namespace semivox::kernels
