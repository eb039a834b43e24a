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
#include "engine/stop_signals.hpp"

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
    remove_stale_temporaries(path_);
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

std::string final_weights(const std::string& folder) { return folder + "/checkpoints/final.safetensors"; }

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

/// Says what is going to run, reads the data and builds the networks.
CachedData prepare(RunPlan& plan) {
  std::cout << "method " << plan.info->name << " (" << plan.info->paper << ")\n"
            << describe_device(plan.setup.device) << "\n"
            << io::describe(plan.folder, plan.split) << std::endl;
  CachedData data = read_data(plan);
  plan.method->build(plan.setup);
  load_first_weights(plan);
  return data;
}

TrainerOptions trainer_options(const RunPlan& plan, const RunRequest& request) {
  TrainerOptions options;
  options.folder = request.folder;
  options.validate_every = plan.config.integer("train.validate_every", 0);
  options.checkpoint_every = plan.config.integer("train.checkpoint_every", 1);
  options.dump_every = plan.config.integer("train.dump_every", 0);
  options.report_every = plan.config.integer("train.report_every", 1);
  options.graph = plan.config.flag("train.graph");
  options.resume = request.resume;
  options.metadata = plan.metadata;
  options.window = plan.window;
  for (size_t axis = 0; axis < 3; ++axis)
    options.window.stride[axis] = std::max<int64_t>(1, plan.window.patch[axis] / 2);
  return options;
}

void print_peak_memory(Device device) {
  const MemoryStatistics memory = memory_statistics(device);
  std::cout << "peak memory " << format_bytes(memory.peak_total) << " (";
  for (int t = 0; t < kMemoryTags; ++t) {
    std::cout << (t ? ", " : "") << name_of(static_cast<MemoryTag>(t)) << " "
              << format_bytes(memory.peak[static_cast<size_t>(t)]);
  }
  std::cout << ")\n";
}

}  // namespace

bool has_state(const std::string& folder) { return fs::exists(state_of(folder)); }

RunOutcome execute_run(const RunConfig& config, const RunRequest& request) {
  RunPlan plan = plan_run(config);
  const TrainerOptions options = trainer_options(plan, request);  // before anything is read or made
  const RunFolder run_folder(request);
  const StopSignals signals;
  if (request.resume && has_state(request.folder)) {
    check_same_run(state_of(request.folder), plan.metadata);
  } else if (fs::exists(final_weights(request.folder))) {
    throw DataError(text(state_of(request.folder), ": not found, expected it beside ",
                         final_weights(request.folder), "; another --out starts a new run"));
  }

  const Device device = plan.setup.device;
  CachedData data = prepare(plan);
  write_file(request.folder + "/config.toml", plan.config.toml(plan.method_options));
  write_file(request.folder + "/split.json", plan.split_by_name.dump(1) + "\n");
  write_file(request.folder + "/environment.json", environment_json(device).dump(1) + "\n");

  reset_peak_memory(device);
  if (request.profile) enable_profile(true);
  RunOutcome outcome;
  outcome.training = train(*plan.method, plan.setup, data, options);
  outcome.peak_memory = memory_statistics(device).peak_total;
  if (request.profile) {
    std::cout << profile_table();
    print_peak_memory(device);
  }
  enable_profile(false);
  if (!plan.split.validation.empty()) {
    outcome.evaluation =
        evaluate_final(plan.method->student(), plan, data, request.folder, request.save_predictions);
  }
  return outcome;
}

void rehearse_run(const RunConfig& config) {
  RunPlan plan = plan_run(config);
  trainer_options(plan, {});  // a real run's would be refused, too
  const Device device = plan.setup.device;
  CachedData data = prepare(plan);
  reset_peak_memory(device);
  const std::vector<Phase> phases = plan.method->phases(plan.setup);
  double total = 0;
  for (size_t p = 0; p < phases.size(); ++p) {
    const Phase& phase = phases[p];
    const auto index = static_cast<int64_t>(p);
    if (index > 0) plan.method->begin_phase(index);
    if (phase.iterations == 0) continue;
    double seconds = 0;
    for (int64_t i = 0; i < 2; ++i) {
      synchronize(device);
      const double before = now_seconds();
      Random random(plan.setup.seed, static_cast<uint64_t>(i) + 1);
      plan.method->step(data.batch(phase, index, i), {index, i, phase.learning_rate.at(i), &random});
      synchronize(device);
      seconds = now_seconds() - before;
    }
    total += seconds * static_cast<double>(phase.iterations);
    std::printf("phase %s: %lld iterations of %lld labelled and %lld unlabelled samples, %.3f s each\n",
                phase.name.c_str(), static_cast<long long>(phase.iterations),
                static_cast<long long>(phase.labeled), static_cast<long long>(phase.unlabeled), seconds);
  }
  std::printf("training: about %.1f min, validation aside\n", total / 60);
  std::fflush(stdout);
  print_peak_memory(device);
}

}  // namespace semivox
