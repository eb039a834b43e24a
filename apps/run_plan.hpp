// What a configuration asks for: method, networks, data and windows of a training run, with everything that
// can be refused refused.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "apps/cached_data.hpp"
#include "apps/run_config.hpp"
#include "io/dataset.hpp"
#include "io/split.hpp"
#include "methods/method.hpp"
#include "methods/sliding_window.hpp"
#include "methods/weights.hpp"

namespace semivox {

struct RunPlan {
  RunConfig config;  ///< with the network and the defaults that go with method and data
  const MethodInfo* info = nullptr;
  std::unique_ptr<Method> method;                     ///< not built yet
  std::map<std::string, std::string> method_options;  ///< all of them, defaults included
  io::DatasetFolder folder;
  MethodSetup setup;
  DataOptions data;
  io::Split split;
  WindowOptions window;            ///< of the evaluation of the final weights
  bool largest_component = false;  ///< likewise
  nlohmann::json split_by_name;
  Metadata metadata;  ///< of weights and checkpoints; its "run." entries decide the course of the run
};

/// Reads the data set's lists, no scan. Throws UsageError or DataError for whatever cannot work.
RunPlan plan_run(RunConfig config);

}  // namespace semivox
