#include "methods/trainer.hpp"

#include <cmath>
#include <cstdio>
#include <filesystem>

#include "engine/profile.hpp"
#include "engine/stop_signals.hpp"
#include "methods/run_log.hpp"
#include "methods/step_runner.hpp"
#include "methods/weights.hpp"

namespace semivox {

namespace {

/// One call of `train`.
class Run {
 public:
  Run(Method& method, const MethodSetup& setup, TrainingData& data, const TrainerOptions& options)
      : method_(method),
        setup_(setup),
        data_(data),
        options_(options),
        phases_(method.phases(setup)),
        run_step_(method, setup.device, setup.seed, options.graph),
        checkpoints_(options.folder + "/checkpoints") {
    std::filesystem::create_directories(checkpoints_);
  }

  TrainingResult operator()() {
    const double start = now_seconds();
    if (options_.resume && std::filesystem::exists(latest())) {
      progress_ = load_checkpoint(latest(), method_, options_.metadata);
      check_progress();
    }
    const int64_t first = done();
    RunLog log(options_.folder + "/metrics.jsonl", first);
    ProgressLine line(first, setup_.iterations, options_.report_every);
    if (first > 0) line.message(text("resumed after iteration ", first));
    const StopSignals signals;

    while (progress_.phase < static_cast<int64_t>(phases_.size())) {
      const Phase& phase = phases_[static_cast<size_t>(progress_.phase)];
      if (progress_.iteration == 0 && progress_.phase > 0) begin_phase(line);
      while (progress_.iteration < phase.iterations) {
        const StepReport report = step(phase);
        log.write(done() - 1, phase.name, report);
        line.update(done(), phase.name, report[0].second, memory_statistics(setup_.device).live_total);
        ++result_.iterations;
        const bool last = progress_.iteration == phase.iterations;
        if (options_.validate_every > 0 && (done() % options_.validate_every == 0 || last)) validate(line);
        if (options_.dump_every > 0 && done() % options_.dump_every == 0) dump();
        if (StopSignals::stop_requested()) {
          save_checkpoint(latest(), method_, progress_, options_.metadata);
          line.finish();
          throw Interrupted(
              text("stopped after iteration ", done(), " of ", setup_.iterations, "; saved in ", latest()));
        }
        if (done() % options_.checkpoint_every == 0 && !last) {
          save_checkpoint(latest(), method_, progress_, options_.metadata);
        }
      }
      ++progress_.phase;
      progress_.iteration = 0;
      progress_.best_phase_dice = -1;
      save_checkpoint(latest(), method_, progress_, options_.metadata);
    }
    line.finish();
    save_weights(checkpoints_ + "/final.safetensors", method_.student(), options_.metadata);
    result_.best_dice = progress_.best_dice;
    result_.seconds = now_seconds() - start;
    return result_;
  }

 private:
  std::string latest() const { return checkpoints_ + "/latest.safetensors"; }
  std::string best_of(const Phase& phase) const {
    return text(checkpoints_, "/best_", phase.name, ".safetensors");
  }
  /// Throws DataError for a state that is no state of this run.
  void check_progress() const {
    const auto count = static_cast<int64_t>(phases_.size());
    const int64_t p = progress_.phase;
    const int64_t most = p >= 0 && p < count ? phases_[static_cast<size_t>(p)].iterations : 0;
    if (p < 0 || p > count || progress_.iteration < 0 || progress_.iteration > most) {
      throw DataError(text(latest(), ": found iteration ", progress_.iteration, " of phase ", p,
                           ", which this run of ", count, " phases has not"));
    }
    for (const double dice : {progress_.best_dice, progress_.best_phase_dice}) {
      if (!(dice >= -1 && dice <= 1)) {
        throw DataError(
            text(latest(), ": found a best validation Dice of ", dice, ", expected 0 to 1, or -1"));
      }
    }
    for (const auto& [name, optimizer] : method_.optimizers()) {
      if (optimizer->steps() >= 0) continue;
      throw DataError(text(latest(), ": found ", optimizer->steps(), " steps of the optimizer of ", name));
    }
  }

  bool in_last_phase() const { return progress_.phase + 1 == static_cast<int64_t>(phases_.size()); }

  /// Iterations done over all phases.
  int64_t done() const {
    int64_t total = progress_.iteration;
    for (int64_t p = 0; p < progress_.phase; ++p) total += phases_[static_cast<size_t>(p)].iterations;
    return total;
  }

  void begin_phase(ProgressLine& line) {
    const Phase& previous = phases_[static_cast<size_t>(progress_.phase - 1)];
    if (previous.continue_from_best && std::filesystem::exists(best_of(previous))) {
      load_weights(method_.student(), read_safetensors(best_of(previous)), best_of(previous));
      line.message(text("phase ", phases_[static_cast<size_t>(progress_.phase)].name, " starts from ",
                        best_of(previous)));
    }
    run_step_.forget();
    method_.begin_phase(progress_.phase);
  }

  StepReport step(const Phase& phase) {
    const double before = now_seconds();
    const Batch batch = data_.batch(phase, progress_.phase, progress_.iteration);
    result_.data_seconds += now_seconds() - before;
    const double learning_rate = phase.learning_rate.at(progress_.iteration);
    StepReport report;
    {
      const Range range("step", setup_.device);
      report = run_step_(batch, progress_.phase, progress_.iteration, learning_rate,
                         static_cast<uint64_t>(done()) + 1);  // step 0 belongs to the initial weights
    }
    for (const auto& [name, value] : report) {
      if (std::isfinite(value)) continue;
      const bool saved = std::filesystem::exists(latest());
      throw Diverged(
          text("iteration ", done(), ", phase ", phase.name, ": ", name, " is ", value,
               ", expected a number; a run with a lower --lr may do better; ",
               saved ? "the last state that was saved is in " + latest() : "no state was saved yet"));
    }
    report.emplace_back("learning_rate", learning_rate);
    ++progress_.iteration;
    return report;
  }

  void validate(ProgressLine& line) {
    if (data_.validation_cases() == 0) return;
    const double before = now_seconds();
    double total = 0;
    for (int64_t i = 0; i < data_.validation_cases(); ++i) {
      const TrainingData::ValidationCase c = data_.validation_case(i);
      const Tensor labels = argmax_labels(predict_probabilities(method_.student(), c.image, options_.window));
      total += mean_dice(labels, c.label, method_.student().options().classes);
    }
    const double dice = total / static_cast<double>(data_.validation_cases());
    result_.validation_seconds += now_seconds() - before;
    const Phase& phase = phases_[static_cast<size_t>(progress_.phase)];
    const bool best_of_phase = dice > progress_.best_phase_dice;
    char shown[32];
    std::snprintf(shown, sizeof shown, "%.4f", dice);
    line.message(text("validation after ", done(), " iterations: Dice ", shown,
                      best_of_phase ? " (best so far)" : ""));
    RunLog(options_.folder + "/validation.jsonl", done() - 1).write(done() - 1, phase.name, {{"dice", dice}});
    if (!best_of_phase) return;
    progress_.best_phase_dice = dice;
    Metadata metadata = options_.metadata;
    metadata["validation.dice"] = shown;
    metadata["validation.iteration"] = text(done());
    if (in_last_phase()) {
      progress_.best_dice = dice;
      save_weights(checkpoints_ + "/best.safetensors", method_.student(), metadata);
    } else {
      save_weights(best_of(phase), method_.student(), metadata);
    }
  }

  void dump() {
    const std::string folder = options_.folder + "/dumps";
    std::filesystem::create_directories(folder);
    char name[64];
    std::snprintf(name, sizeof name, "/iteration_%06lld.safetensors", static_cast<long long>(done()));
    save_networks(folder + name, method_, options_.metadata);
  }

  Method& method_;
  const MethodSetup& setup_;
  TrainingData& data_;
  const TrainerOptions& options_;
  std::vector<Phase> phases_;
  StepRunner run_step_;
  std::string checkpoints_;
  Progress progress_;
  TrainingResult result_;
};

}  // namespace

TrainingResult train(Method& method, const MethodSetup& setup, TrainingData& data,
                     const TrainerOptions& options) {
  return Run(method, setup, data, options)();
}

double mean_dice(const Tensor& prediction, const Tensor& reference, int64_t classes) {
  SEMIVOX_CHECK(prediction.shape() == reference.shape(), prediction.shape().str(), " against ",
                reference.shape().str());
  const Tensor p_host = prediction.to(Device{}), g_host = reference.to(Device{});
  const uint8_t* p = p_host.data<uint8_t>();  // (V)
  const uint8_t* g = g_host.data<uint8_t>();  // (V)
  std::vector<int64_t> both(256), in_p(256), in_g(256);
  for (int64_t i = 0; i < prediction.elements(); ++i) {
    ++in_p[p[i]];
    ++in_g[g[i]];
    if (p[i] == g[i]) ++both[p[i]];
  }
  double total = 0;
  for (int64_t c = 1; c < classes; ++c) {
    const auto k = static_cast<size_t>(c);
    const int64_t sizes = in_p[k] + in_g[k];
    total += sizes == 0 ? 1.0 : 2.0 * static_cast<double>(both[k]) / static_cast<double>(sizes);
  }
  return total / static_cast<double>(std::max<int64_t>(classes - 1, 1));
}

}  // namespace semivox
