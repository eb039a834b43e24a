#include "apps/training_run.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <iostream>

#include "apps/environment.hpp"
#include "apps/final_evaluation.hpp"
#include "apps/run_plan.hpp"
#include "engine/atomic_file.hpp"
#include "engine/profile.hpp"

namespace semivox {

namespace fs = std::filesystem;

namespace {

/// The run folder of this process alone: made when it is missing, and taken away again when nothing was put
/// into it.
class RunFolder {
 public:
  explicit RunFolder(const RunRequest& request) : path_(request.folder) {
    if (path_.empty()) throw UsageError("--out: found '', expected a folder");
    std::error_code error;
    made_ = fs::create_directories(path_, error);
    if (error) throw DataError(text(path_, ": cannot make the run folder: ", error.message()));
    { const AtomicFile probe(path_ + "/write-test"); }  // throws when nothing can be written here
    if (!request.resume && fs::exists(path_ + "/metrics.jsonl")) {
      throw UsageError(
          text(path_, ": holds a run already, expected another --out, or --resume to continue it"));
    }
    lock_ = open((path_ + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock_ >= 0 && flock(lock_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      close(lock_);
      throw UsageError(text(path_, ": another process is training in this folder, expected another --out"));
    }
  }
  ~RunFolder() {
    std::error_code not_there, not_empty;
    fs::remove(path_ + "/lock", not_there);
    if (lock_ >= 0) close(lock_);
    if (made_) fs::remove(path_, not_empty);
  }
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

 private:
  std::string path_;
  bool made_ = false;
  int lock_ = -1;  // held while the process lives, however it ends
};

/// The state that a run continues from.
std::string state_of(const std::string& folder) { return folder + "/checkpoints/latest.safetensors"; }

CachedData read_data(const RunPlan& plan) {
  const double before = now_seconds();
  CachedData data(plan.data, plan.folder, plan.split, plan.setup.device);
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%.1f s", now_seconds() - before);
  std::cout << "data: " << format_bytes(data.bytes()) << " cached in " << seconds << std::endl;
  if (plan.data.dims == 2) {
    std::cout << "slices: " << data.labeled_units() << " labelled, " << data.unlabeled_units()
              << " unlabelled" << std::endl;
  }
  return data;
}

/// Fills the method's networks from train.init, if there is one.
void load_first_weights(const RunPlan& plan) {
  const std::string& file = plan.config.value("train.init");
  if (file.empty()) return;
  const SafetensorsFile weights = read_safetensors(file);
  for (const auto& [name, network] : plan.method->networks()) {
    if (network->options().name == plan.setup.network.name) load_weights(*network, weights, file);
  }
}

TrainerOptions trainer_options(const RunPlan& plan, const RunRequest& request) {
  TrainerOptions options;
  options.folder = request.folder;
  options.validate_every = plan.config.integer("train.validate_every", 0);
  options.checkpoint_every = plan.config.integer("train.checkpoint_every", 1);
  options.dump_every = plan.config.integer("train.dump_every", 0);
  options.report_every = plan.config.integer("train.report_every", 1);
  options.resume = request.resume;
  options.metadata = plan.metadata;
  options.window = plan.window;
  for (size_t axis = 0; axis < 3; ++axis)
    options.window.stride[axis] = std::max<int64_t>(1, plan.window.patch[axis] / 2);
  return options;
}

void print_profile(Device device) {
  std::cout << profile_table();
  const MemoryStatistics memory = memory_statistics(device);
  std::cout << "peak memory " << format_bytes(memory.peak_total) << " (";
  for (int t = 0; t < kMemoryTags; ++t) {
    std::cout << (t ? ", " : "") << name_of(static_cast<MemoryTag>(t)) << " "
              << format_bytes(memory.peak[static_cast<size_t>(t)]);
  }
  std::cout << ")\n";
}

}  // namespace

RunOutcome execute_run(const RunConfig& config, const RunRequest& request) {
  RunPlan plan = plan_run(config);
  const RunFolder run_folder(request);
  if (request.resume && fs::exists(state_of(request.folder)))
    check_same_run(state_of(request.folder), plan.metadata);

  const Device device = plan.setup.device;
  std::cout << "method " << plan.info->name << " (" << plan.info->paper << ")\n"
            << describe_device(device) << "\n"
            << io::describe(plan.folder, plan.split) << std::endl;
  CachedData data = read_data(plan);
  plan.method->build(plan.setup);
  load_first_weights(plan);
  write_file(request.folder + "/config.toml", plan.config.toml(plan.method_options));
  write_file(request.folder + "/split.json", plan.split_by_name.dump(1) + "\n");
  write_file(request.folder + "/environment.json", environment_json(device).dump(1) + "\n");

  reset_peak_memory(device);
  if (request.profile) enable_profile(true);
  RunOutcome outcome;
  outcome.training = train(*plan.method, plan.setup, data, trainer_options(plan, request));
  outcome.peak_memory = memory_statistics(device).peak_total;
  if (request.profile) print_profile(device);
  enable_profile(false);
  if (!plan.split.validation.empty()) {
    outcome.evaluation =
        evaluate_final(plan.method->student(), plan, data, request.folder, request.save_predictions);
  }
  return outcome;
}

}  // namespace semivox
