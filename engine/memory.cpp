#include "engine/memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "engine/cuda_runtime.hpp"
#include "engine/error.hpp"
#include "engine/profile.hpp"

namespace semivox {

const char* name_of(MemoryTag tag) {
  constexpr const char* names[kMemoryTags] = {"weights", "optimizer", "activations", "workspace", "data"};
  return names[static_cast<int>(tag)];
}

std::string format_bytes(int64_t bytes) {
  char out[32];
  if (bytes >= int64_t{1} << 30) {
    std::snprintf(out, sizeof out, "%.2f GiB", static_cast<double>(bytes) / (1 << 30));
  } else if (bytes >= 1 << 20) {
    std::snprintf(out, sizeof out, "%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  } else if (bytes >= 1 << 10) {
    std::snprintf(out, sizeof out, "%.1f KiB", static_cast<double>(bytes) / (1 << 10));
  } else {
    std::snprintf(out, sizeof out, "%lld B", static_cast<long long>(bytes));
  }
  return out;
}

namespace {

constexpr int64_t kSmallGranule = 512;
constexpr int64_t kHugePage = int64_t{2} << 20;

int64_t rounded_size(int64_t bytes) {
  const int64_t granule = bytes >= kHugePage ? kHugePage : kSmallGranule;
  return std::max(granule, (bytes + granule - 1) / granule * granule);
}

struct LiveBlock {
  int64_t bytes;
  MemoryTag tag;
  const char* range;  // profiling range that asked for it
  int set;            // 0: of no set
};

class Pool {
 public:
  explicit Pool(Device device) : device_(device) {}

  void* take(int64_t bytes, MemoryTag tag) {
    const int64_t size = rounded_size(bytes);
    std::lock_guard lock(mutex_);
    if (limit_ > 0 && statistics_.live_total + size > limit_)
      throw_out_of_memory(size, "the limit is reached");
    void* block = take_cached(size);
    if (block == nullptr) block = take_new(size);
    live_[block].tag = tag;
    live_[block].range = current_range();
    live_[block].set = open_set_;
    const int t = static_cast<int>(tag);
    const int64_t got = live_[block].bytes;
    statistics_.live[t] += got;
    statistics_.peak[t] = std::max(statistics_.peak[t], statistics_.live[t]);
    statistics_.live_total += got;
    statistics_.peak_total = std::max(statistics_.peak_total, statistics_.live_total);
    return block;
  }

  void give_back(void* block) {
    std::lock_guard lock(mutex_);
    const auto found = live_.find(block);
    const LiveBlock entry = found->second;
    live_.erase(found);
    statistics_.live[static_cast<int>(entry.tag)] -= entry.bytes;
    statistics_.live_total -= entry.bytes;
    statistics_.cached += entry.bytes;
    free_of(entry.set).emplace(entry.bytes, block);
  }

  int begin_set() {
    std::lock_guard lock(mutex_);
    SEMIVOX_CHECK(open_set_ == 0, "memory set ", open_set_, " is open");
    open_set_ = ++last_set_;
    sets_[open_set_];
    return open_set_;
  }

  void end_set() {
    std::lock_guard lock(mutex_);
    open_set_ = 0;
  }

  void release_set(int set) {
    std::lock_guard lock(mutex_);
    free_.merge(sets_[set]);
    sets_.erase(set);
  }

  MemoryStatistics statistics() {
    std::lock_guard lock(mutex_);
    return statistics_;
  }

  void reset_peak() {
    std::lock_guard lock(mutex_);
    statistics_.peak = statistics_.live;
    statistics_.peak_total = statistics_.live_total;
  }

  void release_cached() {
    std::lock_guard lock(mutex_);
    release_cached_locked();
  }

  void set_limit(int64_t bytes) {
    std::lock_guard lock(mutex_);
    limit_ = bytes;
  }

 private:
  // A cached block up to a quarter larger than asked for is good enough; a larger one would waste too much.
  void* take_cached(int64_t size) {
    int64_t largest = size + size / 4;
    if (limit_ > 0) largest = std::min(largest, limit_ - statistics_.live_total);
    auto& free = free_of(open_set_);
    const auto found = free.lower_bound(size);
    if (found == free.end() || found->first > largest) return nullptr;
    void* block = found->second;
    live_[block].bytes = found->first;
    statistics_.cached -= found->first;
    free.erase(found);
    return block;
  }

  void* take_new(int64_t size) {
    void* block = system_allocate(size);
    if (block == nullptr && open_set_ == 0) {  // while work is recorded, the device cannot be waited for
      release_cached_locked();
      block = system_allocate(size);
    }
    if (block == nullptr) throw_out_of_memory(size, "the system has no more");
    live_[block].bytes = size;
    return block;
  }

  void* system_allocate(int64_t size) {
#ifdef SEMIVOX_CUDA
    if (device_.is_cuda()) {
      void* block = nullptr;
      cuda::use(device_.index);
      const cudaError_t status = cudaMalloc(&block, static_cast<size_t>(size));
      if (status == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        return nullptr;
      }
      cuda::check(status, "cudaMalloc", __FILE__, __LINE__);
      return block;
    }
#endif
    void* block = std::aligned_alloc(size >= kHugePage ? kHugePage : 64, static_cast<size_t>(size));
    if (block != nullptr && size >= kHugePage) madvise(block, static_cast<size_t>(size), MADV_HUGEPAGE);
    return block;
  }

  void system_free(void* block) {
#ifdef SEMIVOX_CUDA
    if (device_.is_cuda()) {
      cudaFree(block);  // a failure here has no one to report to; the next checked call will
      return;
    }
#endif
    std::free(block);
  }

  void release_cached_locked() {
    if (device_.is_cuda()) synchronize(device_);
    for (const auto& [bytes, block] : free_) {
      system_free(block);
      statistics_.cached -= bytes;
    }
    free_.clear();
  }

  /// The free blocks of a set, or of none when it is 0 or was released.
  std::multimap<int64_t, void*>& free_of(int set) {
    const auto found = sets_.find(set);
    return found == sets_.end() ? free_ : found->second;
  }

  [[noreturn]] void throw_out_of_memory(int64_t size, const char* why) {
    std::string message = text("out of memory on ", device_.name(), ": asked for ", format_bytes(size), ", ",
                               why, "; in use ", format_bytes(statistics_.live_total), " (");
    for (int t = 0; t < kMemoryTags; ++t) {
      message +=
          text(t ? ", " : "", name_of(static_cast<MemoryTag>(t)), " ", format_bytes(statistics_.live[t]));
    }
    std::map<std::string, int64_t> holders;
    for (const auto& [block, entry] : live_) {
      holders[text(name_of(entry.tag), " of ", entry.range)] += entry.bytes;
    }
    std::vector<std::pair<int64_t, std::string>> largest;
    for (const auto& [holder, bytes] : holders) largest.emplace_back(bytes, holder);
    std::sort(largest.rbegin(), largest.rend());
    message += "); largest holders:";
    for (size_t i = 0; i < largest.size() && i < 5; ++i) {
      message += text(i ? ", " : " ", largest[i].second, " ", format_bytes(largest[i].first));
    }
    throw OutOfMemory(message + "; a smaller --patch, --batch or --filters needs less");
  }

  Device device_;
  std::mutex mutex_;
  std::multimap<int64_t, void*> free_;                 // by size
  std::map<int, std::multimap<int64_t, void*>> sets_;  // those of the sets, by number
  int open_set_ = 0, last_set_ = 0;
  std::unordered_map<void*, LiveBlock> live_;
  MemoryStatistics statistics_;
  int64_t limit_ = 0;
};

// Pools live until the process ends: tensors in static storage may outlive any other order of destruction.
Pool& pool_of(Device device) {
  static std::mutex mutex;
  static auto* pools = new std::map<int, std::unique_ptr<Pool>>;
  std::lock_guard lock(mutex);
  auto& pool = (*pools)[device.is_cuda() ? device.index : -1];
  if (!pool) pool = std::make_unique<Pool>(device);
  return *pool;
}

}  // namespace

std::shared_ptr<void> allocate(Device device, int64_t bytes, MemoryTag tag) {
  SEMIVOX_CHECK(bytes >= 0, "asked for ", bytes, " bytes");
  Pool& pool = pool_of(device);
  return {pool.take(bytes, tag), [&pool](void* block) { pool.give_back(block); }};
}

MemoryStatistics memory_statistics(Device device) { return pool_of(device).statistics(); }
void reset_peak_memory(Device device) { pool_of(device).reset_peak(); }
void release_cached_memory(Device device) { pool_of(device).release_cached(); }
int begin_memory_set(Device device) { return pool_of(device).begin_set(); }
void end_memory_set(Device device) { pool_of(device).end_set(); }
void release_memory_set(Device device, int set) { pool_of(device).release_set(set); }
void set_memory_limit(Device device, int64_t bytes) { pool_of(device).set_limit(bytes); }

}  // namespace semivox
