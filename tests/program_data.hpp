// The data set of the tests that run the program.
#pragma once

#include <string>

#include "io/synth.hpp"
#include "tests/temporary_folder.hpp"

namespace semivox {

/// Six synthetic cases, four for training and two for validation, made once.
inline const std::string& data_set() {
  static const TemporaryFolder folder;
  static const std::string path = [] {
    io::write_synthetic_dataset(folder / "data", {.cases = 6, .size = {32, 32, 32}});
    return folder / "data";
  }();
  return path;
}

}  // namespace semivox
