// Command-line options that `train` and `compare` share: each one sets an entry of the run's configuration.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "apps/run_config.hpp"

namespace CLI {
class App;
}

namespace semivox {

/// What the user typed, in the order of the command line.
struct TrainingOptions {
  std::string config_file;
  std::vector<std::pair<std::string, std::string>> given;  ///< key and value
  std::vector<std::string> set;                            ///< --set key=value

  /// default < file < command line.
  RunConfig resolve() const;
};

/// Adds the options to a subcommand.
std::shared_ptr<TrainingOptions> add_training_options(CLI::App& command);

}  // namespace semivox
