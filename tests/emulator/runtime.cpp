// The runtime calls: device memory, copies, launches.
#include <sys/mman.h>

#include <cstdio>
#include <map>

#include "tests/emulator/include/cuda_runtime.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

namespace {

constexpr size_t kDeviceBytes = size_t{256} << 20;
constexpr size_t kAlignment = 256;  // of every block, as the runtime promises

std::string last_failure = "unspecified launch failure";

/// One stretch of addresses that the host cannot touch unless it is open.
class DeviceMemory {
 public:
  DeviceMemory()
      : base_(static_cast<char*>(
            mmap(nullptr, kDeviceBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
    ASAN_POISON_MEMORY_REGION(base_, kDeviceBytes);
  }

  void protect(int protection) { mprotect(base_, kDeviceBytes, protection); }

  /// The first gap that is large enough, with room to the neighbours that stays poisoned; null when there is
  /// none.
  void* take(size_t bytes) {
    const size_t room = (bytes / kAlignment + 2) * kAlignment;
    char* begin = base_;
    for (const auto& [block, size] : blocks_) {
      if (static_cast<size_t>(block - begin) >= room) break;
      begin = block + size;
    }
    if (static_cast<size_t>(base_ + kDeviceBytes - begin) < room) return nullptr;
    blocks_[begin] = room;
    ASAN_UNPOISON_MEMORY_REGION(begin, bytes);
    return begin;
  }

  bool give_back(void* block) {
    const auto found = blocks_.find(static_cast<char*>(block));
    if (found == blocks_.end()) return false;
    ASAN_POISON_MEMORY_REGION(found->first, found->second);
    blocks_.erase(found);
    return true;
  }

 private:
  char* base_;
  std::map<char*, size_t> blocks_;
};

DeviceMemory& device_memory() {
  static auto* memory = new DeviceMemory;  // never destroyed: static tensors outlive any order
  return *memory;
}

/// While one is alive, device memory can be read and written.
struct OpenMemory {
  OpenMemory() { device_memory().protect(PROT_READ | PROT_WRITE); }
  ~OpenMemory() { device_memory().protect(PROT_NONE); }
};

}  // namespace

cudaError_t emulator::launch_kernel(dim3 grid, dim3 block, const std::function<void()>& kernel) {
  const bool fits = grid.x >= 1 && grid.y >= 1 && grid.z >= 1 && grid.x < (1u << 31) && grid.y < (1u << 16) &&
                    grid.z < (1u << 16) && block.x >= 1 && block.y >= 1 && block.z >= 1 && block.z <= 64 &&
                    size_t{block.x} * block.y * block.z <= 1024;
  if (!fits) return cudaErrorInvalidConfiguration;
  const OpenMemory open;
  const std::string failure = launch(grid, block, kernel);
  if (failure.empty()) return cudaSuccess;
  last_failure = failure;
  return cudaErrorLaunchFailure;
}

cudaError_t cudaMalloc(void** block, size_t bytes) {
  *block = device_memory().take(bytes);
  if (*block == nullptr) return cudaErrorMemoryAllocation;
  return cudaMemsetAsync(*block, 0xff, bytes, nullptr);
}

cudaError_t cudaFree(void* block) {
  return block == nullptr || device_memory().give_back(block) ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  const OpenMemory open;
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  const OpenMemory open;
  std::memset(to, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::snprintf(properties->name, sizeof properties->name, "block emulator");
  properties->totalGlobalMem = kDeviceBytes;
  properties->major = 9;
  properties->minor = 0;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidValue; }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  static char only_stream;
  *stream = reinterpret_cast<cudaStream_t>(&only_stream);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

cudaError_t cudaGetLastError() { return cudaSuccess; }

const char* cudaGetErrorString(cudaError_t status) {
  switch (status) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorLaunchFailure:
      return last_failure.c_str();
  }
  return "unknown error";
}
