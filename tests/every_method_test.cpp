// Every method of the registry as a user runs it, on tiny synthetic sets of volumes and of slices: it learns,
// and a run that was killed and continued ends in the same weights.

#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "io/synth.hpp"
#include "io/synth_slices.hpp"
#include "layers/network.hpp"
#include "methods/method.hpp"
#include "tests/program_process.hpp"

using namespace semivox;

namespace {

#ifdef __SANITIZE_ADDRESS__  // ten times as slow, and looking at memory: too few iterations to learn
constexpr int kIterations = 6, kCheckpointEvery = 2, kKilledAt = 3;
#else
constexpr int kIterations = 20, kCheckpointEvery = 4, kKilledAt = 9;
#endif
constexpr size_t kWindow = 6;  // losses that are averaged at both ends of the training

const std::string kFinal = "/checkpoints/final.safetensors";

/// Four volumes for training, two of them labelled.
const std::string& volumes() {
  static const TemporaryFolder folder;
  static const std::string path = [] {
    io::write_synthetic_dataset(folder / "data", {.cases = 6, .size = {32, 32, 32}});
    return folder / "data";
  }();
  return path;
}

/// Four stacks of four slices for training, two of them labelled.
const std::string& slices() {
  static const TemporaryFolder folder;
  static const std::string path = [] {
    io::write_synthetic_slices(folder / "data", {.cases = 6, .size = {48, 40, 4}, .spacing = 3});
    return folder / "data";
  }();
  return path;
}

/// Two labelled and two unlabelled samples per batch. One thread: with little to do, waiting for the other
/// takes longer.
std::string train(const std::string& method, bool in_slices) {
  return text(
      "train --method ", method, in_slices ? " --dims 2 --patch 32x32 --data " : " --patch 32x32x16 --data ",
      in_slices ? slices() : volumes(), " --labeled 2 --filters 4 --batch 4 --iterations ", kIterations,
      " --lr 0.1 --validate-every 0 --checkpoint-every ", kCheckpointEvery, " --device cpu --threads 1");
}

/// Losses of the last phase; every number in the log must be finite.
std::vector<double> losses(const std::string& run) {
  std::vector<double> values;
  std::string phase;
  std::istringstream lines(read_bytes(run + "/metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const auto json = nlohmann::json::parse(line);
    for (const auto& [name, value] : json.items()) {
      if (value.is_number()) CHECK_MESSAGE(std::isfinite(value.get<double>()), name);
      CHECK_MESSAGE(!value.is_null(), name);
    }
    if (json["phase"] != phase) values.clear();
    phase = json["phase"];
    values.push_back(json["loss"]);
  }
  return values;
}

double mean(const std::vector<double>& values, size_t first, size_t last) {
  double sum = 0;
  for (size_t i = first; i < last; ++i) sum += values[i];
  return sum / static_cast<double>(last - first);
}

/// True when the method trains slices, i.e. networks that do not halve the first axis.
bool takes_slices(const MethodInfo& info) {
  if (info.networks.empty()) return true;
  for (const std::string& name : info.networks) {
    NetworkOptions options;
    options.name = name;
    if (make_network(options)->divisor()[0] == 1) return true;
  }
  return false;
}

void check_method(const MethodInfo& info, bool in_slices) {
  CAPTURE(info.name);
  CAPTURE(in_slices);
  const TemporaryFolder folder;
  const std::string arguments = train(info.name, in_slices), whole = folder / "whole",
                    killed = folder / "killed";
  const Outcome trained = run(folder, arguments + " --out " + whole);
  INFO(trained.error);
  CHECK(trained.exit_code == 0);
  if (trained.exit_code != 0) return;
  const std::vector<double> loss = losses(whole);
  if (kIterations > 2 * kWindow) {
    REQUIRE(loss.size() >= 2 * kWindow);
    CHECK(mean(loss, loss.size() - kWindow, loss.size()) < mean(loss, 0, kWindow));
  }

  CHECK(run_until(folder, arguments, killed, kKilledAt, SIGKILL).exit_code == -1);
  const Outcome resumed = run(folder, arguments + " --resume --out " + killed);
  INFO(resumed.error);
  CHECK(resumed.exit_code == 0);
  if (resumed.exit_code != 0) return;
  CHECK(mentions(resumed.output, "resumed after iteration"));
  CHECK(read_bytes(killed + kFinal) == read_bytes(whole + kFinal));
  CHECK(read_bytes(killed + "/metrics.jsonl") == read_bytes(whole + "/metrics.jsonl"));
}

}  // namespace

TEST_CASE("every method learns on volumes, and continues where it was killed") {
  for (const MethodInfo& info : registered_methods()) check_method(info, false);
}

TEST_CASE("every method with a 2D form learns on slices, and continues where it was killed") {
  for (const MethodInfo& info : registered_methods()) {
    if (takes_slices(info)) check_method(info, true);
  }
}
