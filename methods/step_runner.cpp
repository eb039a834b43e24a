#include "methods/step_runner.hpp"

#include "engine/memory.hpp"
#include "engine/profile.hpp"

namespace semivox {

StepRunner::StepRunner(Method& method, Device device, uint64_t seed, bool replay, int preparations)
    : method_(method),
      device_(device),
      seed_(seed),
      replay_(replay && device.is_cuda() && method.replayable() && !profile_enabled()),
      preparations_(preparations) {}

StepReport StepRunner::operator()(const Batch& batch, int64_t phase, int64_t iteration, double learning_rate,
                                  uint64_t step) {
  context_.phase = phase;
  context_.iteration = iteration;
  learning_rate_ = learning_rate;
  step_ = step;
  if (!replay_ || prepared_ < preparations_) {
    ++prepared_;
    Random random(seed_, step_);
    context_.learning_rate = learning_rate_;
    context_.random = &random;
    return method_.step(batch, context_);
  }
  if (!recording_) {
    record(batch);
  } else {
    batch_.image.copy_from(batch.image);
    batch_.label.copy_from(batch.label);
    recording_->replay();
  }
  return read_();
}

void StepRunner::record(const Batch& batch) {
  batch_ = {batch.image.clone(), batch.label.clone(), batch.labeled};
  // Packed or folded copies of the weights have to be made by the recorded iteration itself.
  for (const auto& [name, network] : method_.networks()) network->parameters().touch();
  release_cached_memory(device_);  // the recorded iteration gets memory of its own
  auto recording = std::make_unique<StepRecording>(device_);
  recording->record([this] {
    Random random(seed_, step_value([this] { return step_; }));
    context_.learning_rate = step_value([this] { return learning_rate_; });
    context_.random = &random;
    read_ = method_.queue(batch_, context_);
  });
  recording_ = std::move(recording);
}

void StepRunner::forget() {
  read_ = nullptr;
  recording_ = nullptr;
  batch_ = {};
  prepared_ = 0;
}

}  // namespace semivox
