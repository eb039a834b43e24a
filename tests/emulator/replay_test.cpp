// Recorded iterations: what is replayed must do what is queued anew, with the same bits.
#include "engine/step_recording.hpp"
#include "kernels/mixing.hpp"
#include "tests/emulator/compare.hpp"
#include "tests/replay_steps.hpp"

using namespace semivox;

namespace {

/// Memory that stays open saves a third of the time. It is closed while an iteration is recorded: the host
/// has no business with the device's memory then.
std::unique_ptr<emulator::OpenMemory> open_unless(bool recorded) {
  return recorded ? nullptr : std::make_unique<emulator::OpenMemory>();
}

void check(const ReplayCase& c) {
  CAPTURE(c.method);
  CAPTURE(c.network);
  std::vector<std::vector<double>> found[2];
  for (const bool replay : {false, true}) {
    emulator::set_seed(0);
    release_cached_memory(kEmulated);
    found[replay] = train_with_replays(c, kEmulated, replay, open_unless);
  }
  REQUIRE(found[0].size() == found[1].size());
  for (size_t i = 0; i < found[0].size(); ++i) {
    CAPTURE(i);
    CHECK(found[1][i] == found[0][i]);
  }
}

}  // namespace

TEST_CASE("replayed iterations of every method equal queued ones") {
  for (const MethodInfo& info : registered_methods()) {
    OptionReader options;
    if (!info.make(options)->replayable()) continue;
    check({info.name, info.networks.empty() ? "vnet" : info.networks.front()});
  }
}

TEST_CASE("replayed iterations equal queued ones: other options") {
  check({"supervised", "vnet", {}, "adamw", 1});
  check({"urpc", "unet2d_urpc"});
  check({"mean_teacher", "unet2d", {{"consistency_from", "1"}}});
  check({"ac_mt", "vnet", {{"strategy", "perr"}, {"perr_passes", "2"}}});
}

TEST_CASE("what changes between replays: values, tables, counters") {
  double number = 1;
  int calls = 0;
  Tensor sum = Tensor::zeros({1, 4, 1, 1, 1}, DType::f32, kEmulated);
  const Tensor ones = sum.clone();
  Tensor filled = ones;
  fill(filled, 1.0);
  std::vector<double> mask;
  Tensor drawn;
  StepRecording recording(kEmulated);
  const auto corner = [&number] { return static_cast<int64_t>(number); };
  recording.record([&] {
    const StepNumber factor = step_value([&] { return number; });
    in_every_step([&] { ++calls; });
    sum.copy_from(add_scaled(sum, ones, factor));
    drawn = kernels::drawn_box_mask(
        {1, 1, 8},
        [corner] {
          return std::vector<kernels::Box>{{{0, 0, 0}, {1, 1, corner()}}};
        },
        kEmulated);
  });
  CHECK(sum.to_doubles() == std::vector<double>(4, 1));
  CHECK(drawn.to_doubles() == std::vector<double>{0, 1, 1, 1, 1, 1, 1, 1});
  number = 3;
  recording.replay();
  CHECK(sum.to_doubles() == std::vector<double>(4, 4));
  CHECK(drawn.to_doubles() == std::vector<double>{0, 0, 0, 1, 1, 1, 1, 1});
  CHECK(calls == 2);
}

TEST_CASE("memory of a recording is nobody else's until it is gone") {
  release_cached_memory(kEmulated);
  const Tensor source = noise({1, 1000, 1, 1, 1}, 1).to(kEmulated);
  Tensor result;
  auto recording = std::make_unique<StepRecording>(kEmulated);
  recording->record([&] {
    const Tensor passing = add_scaled(source, source, 1.0);  // given back when the recording has ended
    result = add_scaled(passing, source, 1.0);
  });
  const std::vector<double> expected = result.to_doubles();
  for (int i = 0; i < 8; ++i) {  // would overwrite `passing`, and with it `source`, if blocks were shared
    Tensor other = Tensor::empty(source.shape(), DType::f32, kEmulated);
    fill(other, i);
    recording->replay();
    CHECK(other.to_doubles() == std::vector<double>(1000, i));
    CHECK(result.to_doubles() == expected);
  }
  const int64_t kept = memory_statistics(kEmulated).cached;
  CHECK(kept > 0);
  recording = nullptr;
  result = Tensor();
  release_cached_memory(kEmulated);
  CHECK(memory_statistics(kEmulated).cached == 0);
}

TEST_CASE("an iteration that reads a result cannot be recorded, and can be queued again") {
  const Tensor x = noise({1, 10, 1, 1, 1}, 1).to(kEmulated);
  StepRecording recording(kEmulated);
  CHECK_THROWS_WITH_AS(recording.record([&] { add_scaled(x, x, 1.0).to_doubles(); }),
                       "the host reads a result of the iteration that is being recorded", InternalError);
  CHECK_FALSE(recording_step());
  CHECK(add_scaled(x, x, 1.0).to_doubles().size() == 10);
  CHECK_THROWS_AS(recording.replay(), InternalError);
}
