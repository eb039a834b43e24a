// CUDA against CPU for whole iterations: every method, every phase, from equal weights, batches and random
// numbers.

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <string>

#include "engine/random.hpp"
#include "methods/method.hpp"
#include "tests/replay_steps.hpp"

using namespace semivox;

namespace {

constexpr Shape kVolume{4, 1, 32, 32, 16};

/// Images in (-1, 1), brighter inside a box, which is the foreground of the labels.
Batch make_batch(const Phase& phase, Device device) {
  const Shape shape = kVolume.with_samples(phase.labeled + phase.unlabeled);
  Tensor image = Tensor::empty(shape, DType::f32, {}), label = Tensor::empty(shape, DType::u8, {});
  const RandomStream random{17, 0, 0};
  for (int64_t i = 0; i < shape.elements(); ++i) {
    const int64_t w = i % shape.w, h = i / shape.w % shape.h, d = i / shape.w / shape.h % shape.d;
    const bool inside = w > 3 && w < 12 && h > 8 && h < 25 && d > 6 && d < 22;
    label.data<uint8_t>()[i] = inside;
    image.data<float>()[i] = random.uniform(static_cast<uint64_t>(i)) * 2 - 1 + (inside ? 0.8f : 0.0f);
  }
  return {image.to(device), label.to(device), phase.labeled};
}

/// What the first iteration of every phase reports, by "phase.term".
std::map<std::string, double> first_iterations(const MethodInfo& info, Device device) {
  OptionReader options;
  const std::unique_ptr<Method> method = info.make(options);
  MethodSetup setup;
  if (!info.networks.empty()) setup.network.name = info.networks.front();
  setup.network.filters = 4;
  setup.device = device;
  setup.batch = 4;
  setup.iterations = 10;
  const std::vector<Phase> phases = method->phases(setup);
  method->build(setup);
  std::map<std::string, double> terms;
  for (size_t p = 0; p < phases.size(); ++p) {
    if (p > 0) method->begin_phase(static_cast<int64_t>(p));
    Random random(5, p);
    const Batch batch = make_batch(phases[p], device);
    for (const auto& [name, value] : method->step(batch, {static_cast<int64_t>(p), 0, 0.01, &random}))
      terms[phases[p].name + "." + name] = value;
  }
  return terms;
}

}  // namespace

TEST_CASE("every method: iterations replayed as a CUDA graph equal queued ones") {
  if (cuda_device_count() == 0) {
    MESSAGE("skipped: " << cuda_unavailable_reason());
    return;
  }
  const Device cuda{DeviceKind::cuda, 0};
  const auto nothing = [](bool) { return 0; };
  for (const MethodInfo& info : registered_methods()) {
    OptionReader options;
    if (!info.make(options)->replayable()) continue;
    CAPTURE(info.name);
    const ReplayCase c{.method = info.name,
                       .network = info.networks.empty() ? "vnet" : info.networks.front(),
                       .preparations = StepRunner::kPreparations};
    const auto queued = train_with_replays(c, cuda, false, nothing);
    const auto replayed = train_with_replays(c, cuda, true, nothing);
    REQUIRE(replayed.size() == queued.size());
    for (size_t i = 0; i < queued.size(); ++i) {
      CAPTURE(i);
      CHECK(replayed[i] == queued[i]);  // the same kernels and algorithms: the same bits
    }
  }
}

TEST_CASE("every method, an iteration of every phase: CUDA equals the CPU") {
  if (cuda_device_count() == 0) {
    MESSAGE("skipped: " << cuda_unavailable_reason());
    return;
  }
  for (const MethodInfo& info : registered_methods()) {
    CAPTURE(info.name);
    const auto expected = first_iterations(info, {}), found = first_iterations(info, {DeviceKind::cuda, 0});
    REQUIRE(found.size() == expected.size());
    // Decisions at a tie (arg max, thresholds) may fall either way: a few voxels of 16,384.
    for (const auto& [name, value] : expected) {
      CAPTURE(name);
      REQUIRE(found.contains(name));
      CHECK(std::isfinite(value));
      CHECK(found.at(name) == doctest::Approx(value).epsilon(5e-3).scale(1e-3));
    }
  }
}
