// The caching allocator: blocks are kept after use and handed out again, and every byte is counted under a
// tag.
//
// Training asks for the same sizes again and again; keeping the blocks avoids page faults on the CPU and the
// synchronising cudaMalloc on the GPU. All work of a device is queued on one stream, so a block freed on the
// host may be handed out at once: its next use is queued behind the last one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "engine/device.hpp"

namespace semivox {

/// What a block of memory is for.
enum class MemoryTag { weights, optimizer, activations, workspace, data };
constexpr int kMemoryTags = 5;
const char* name_of(MemoryTag tag);

struct MemoryStatistics {
  std::array<int64_t, kMemoryTags> live{};  ///< bytes in use now, by tag
  std::array<int64_t, kMemoryTags> peak{};  ///< highest value of `live`, by tag
  int64_t live_total = 0;
  int64_t peak_total = 0;
  int64_t cached = 0;  ///< bytes kept for reuse
};

/// Owns one block; the block returns to the cache when the last owner is gone.
std::shared_ptr<void> allocate(Device device, int64_t bytes, MemoryTag tag);

/// What the device holds now, and its peaks since the program's start or the last reset.
MemoryStatistics memory_statistics(Device device);
void reset_peak_memory(Device device);

/// Gives cached blocks back to the system.
void release_cached_memory(Device device);

/// Blocks asked for between `begin` and `end` form a set of their own, whose number `begin` returns: given
/// back, they are kept for other requests of the same set, and nobody else gets them until the set is
/// released. For work whose addresses are recorded (engine/step_recording.hpp).
int begin_memory_set(Device device);
void end_memory_set(Device device);
void release_memory_set(Device device, int set);

/// Upper limit for live bytes; beyond it `allocate` throws OutOfMemory. 0 means no limit.
void set_memory_limit(Device device, int64_t bytes);

/// "1.50 GiB", "12.0 MiB", "640 B".
std::string format_bytes(int64_t bytes);

}  // namespace semivox
