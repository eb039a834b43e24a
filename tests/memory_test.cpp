// The caching allocator: accounting by tag, peaks, reuse, and the message when memory runs out.

#include <doctest/doctest.h>

#include "engine/memory.hpp"
#include "engine/profile.hpp"
#include "engine/tensor.hpp"

using namespace semivox;

namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

int64_t live(MemoryTag tag) { return memory_statistics({}).live[static_cast<size_t>(tag)]; }
int64_t peak(MemoryTag tag) { return memory_statistics({}).peak[static_cast<size_t>(tag)]; }

/// Removes the limit at the end of a test, however it ends.
struct Limit {
  explicit Limit(int64_t bytes) { set_memory_limit({}, bytes); }
  ~Limit() { set_memory_limit({}, 0); }
};

}  // namespace

TEST_CASE("bytes are counted under their tag, with peaks") {
  release_cached_memory({});
  reset_peak_memory({});
  const int64_t before = live(MemoryTag::data), weights = live(MemoryTag::weights);
  const int64_t total = memory_statistics({}).live_total;
  auto a = allocate({}, 4 * kMiB, MemoryTag::data);
  auto b = allocate({}, 2 * kMiB, MemoryTag::data);
  CHECK(live(MemoryTag::data) - before == 6 * kMiB);
  CHECK(live(MemoryTag::weights) == weights);
  CHECK(memory_statistics({}).live_total - total == 6 * kMiB);
  b.reset();
  CHECK(live(MemoryTag::data) - before == 4 * kMiB);
  CHECK(peak(MemoryTag::data) - before == 6 * kMiB);
  CHECK(memory_statistics({}).peak_total - total == 6 * kMiB);
  CHECK(memory_statistics({}).cached == 2 * kMiB);
  reset_peak_memory({});
  CHECK(peak(MemoryTag::data) - before == 4 * kMiB);
  a.reset();
  CHECK(live(MemoryTag::data) == before);
  CHECK(memory_statistics({}).live_total == total);
}

TEST_CASE("a block is handed out again for a size up to a quarter smaller, under the new tag") {
  release_cached_memory({});
  void* const first = allocate({}, 10 * kMiB, MemoryTag::activations).get();
  CHECK(memory_statistics({}).cached == 10 * kMiB);
  const auto again = allocate({}, 8 * kMiB, MemoryTag::workspace);
  CHECK(again.get() == first);
  CHECK(memory_statistics({}).cached == 0);
  const auto small = allocate({}, 2 * kMiB, MemoryTag::workspace);
  CHECK(small.get() != first);
}

TEST_CASE("a much larger cached block is left alone") {
  release_cached_memory({});
  allocate({}, 16 * kMiB, MemoryTag::activations).reset();
  const auto small = allocate({}, 4 * kMiB, MemoryTag::activations);
  CHECK(memory_statistics({}).cached == 16 * kMiB);
  release_cached_memory({});
  CHECK(memory_statistics({}).cached == 0);
}

TEST_CASE("blocks are aligned for vectors, and an empty block is one too") {
  for (const int64_t bytes : {0, 1, 63, 513, 100000, 3 << 20}) {
    const auto block = allocate({}, bytes, MemoryTag::workspace);
    REQUIRE(block != nullptr);
    CHECK(reinterpret_cast<uintptr_t>(block.get()) % 64 == 0);
  }
}

TEST_CASE("beyond the limit the error names the largest holders") {
  const int64_t base = memory_statistics({}).live_total;
  const auto data = allocate({}, 64 * kMiB, MemoryTag::data);
  std::shared_ptr<void> activations;
  {
    const Range range("conv.forward");
    activations = allocate({}, 128 * kMiB, MemoryTag::activations);
  }
  const Limit limit(base + 256 * kMiB);
  const auto fits = allocate({}, 64 * kMiB, MemoryTag::weights);
  std::string message;
  int code = 0;
  try {
    allocate({}, 2 * kMiB, MemoryTag::workspace);
  } catch (const OutOfMemory& error) {
    message = error.what();
    code = error.exit_code;
  }
  CHECK(code == 4);
  CAPTURE(message);
  CHECK(message.find("out of memory on cpu: asked for 2.0 MiB") == 0);
  const size_t largest = message.find("largest holders: activations of conv.forward 128.0 MiB");
  const size_t second = message.find("data of (no range) 64.0 MiB");
  CHECK(largest != std::string::npos);
  CHECK(second != std::string::npos);
  CHECK(largest < second);
  CHECK(message.find("\n") == std::string::npos);
  activations.reset();
  CHECK_NOTHROW(allocate({}, 2 * kMiB, MemoryTag::workspace));
}

TEST_CASE("a reused block that is larger than asked for respects the limit, too") {
  release_cached_memory({});
  const int64_t base = memory_statistics({}).live_total;
  allocate({}, 10 * kMiB, MemoryTag::data).reset();
  const Limit limit(base + 8 * kMiB);
  const auto block = allocate({}, 8 * kMiB, MemoryTag::data);
  CHECK(memory_statistics({}).live_total <= base + 8 * kMiB);
}

#ifndef __SANITIZE_ADDRESS__  // the sanitizer ends the program where the system would refuse
TEST_CASE("what the system refuses is OutOfMemory") {
  CHECK_THROWS_AS(allocate({}, int64_t{1} << 60, MemoryTag::data), OutOfMemory);
}

TEST_CASE("a failed allocation leaves the accounts as they were") {
  const MemoryStatistics before = memory_statistics({});
  CHECK_THROWS_AS(Tensor::empty({1, int64_t{1} << 58, 1, 1, 1}, DType::f32, {}), OutOfMemory);
  const MemoryStatistics after = memory_statistics({});
  CHECK(after.live == before.live);
  CHECK(after.live_total == before.live_total);
}
#endif

TEST_CASE("a negative size is a mistake of the program") {
  CHECK_THROWS_AS(allocate({}, -1, MemoryTag::data), InternalError);
}

TEST_CASE("sizes are written for people") {
  CHECK(format_bytes(640) == "640 B");
  CHECK(format_bytes(1536) == "1.5 KiB");
  CHECK(format_bytes(12 * kMiB) == "12.0 MiB");
  CHECK(format_bytes(1536 * kMiB) == "1.50 GiB");
}
