// The runtime calls: device memory, copies, launches.
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <vector>

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

int open_scopes = 0;

}  // namespace

emulator::OpenMemory::OpenMemory() {
  if (open_scopes++ == 0) device_memory().protect(PROT_READ | PROT_WRITE);
}
emulator::OpenMemory::~OpenMemory() {
  if (--open_scopes == 0) device_memory().protect(PROT_NONE);
}

using emulator::OpenMemory;

/// Work of a captured stream, in order.
struct CUgraph_st {
  std::vector<std::function<cudaError_t()>> work;
};
struct CUgraphExec_st : CUgraph_st {};

namespace {

CUgraph_st* captured = nullptr;  // the graph of the capture that is under way

/// Does the work, or keeps it for the graph.
cudaError_t queue(std::function<cudaError_t()> work) {
  if (captured == nullptr) return work();
  captured->work.push_back(std::move(work));
  return cudaSuccess;
}

cudaError_t run_kernel(dim3 grid, dim3 block, const std::function<void()>& kernel) {
  const OpenMemory open;
  const std::string failure = emulator::launch(grid, block, kernel);
  if (failure.empty()) return cudaSuccess;
  last_failure = failure;
  return cudaErrorLaunchFailure;
}

}  // namespace

cudaError_t emulator::launch_kernel(dim3 grid, dim3 block, std::function<void()> kernel) {
  const bool fits = grid.x >= 1 && grid.y >= 1 && grid.z >= 1 && grid.x < (1u << 31) && grid.y < (1u << 16) &&
                    grid.z < (1u << 16) && block.x >= 1 && block.y >= 1 && block.z >= 1 && block.z <= 64 &&
                    size_t{block.x} * block.y * block.z <= 1024;
  if (!fits) return cudaErrorInvalidConfiguration;
  return queue([=, kernel = std::move(kernel)] { return run_kernel(grid, block, kernel); });
}

cudaError_t cudaMalloc(void** block, size_t bytes) {
  *block = device_memory().take(bytes);
  if (*block == nullptr) return cudaErrorMemoryAllocation;
  const OpenMemory open;
  std::memset(*block, 0xff, bytes);
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** block, size_t bytes) {
  *block = std::malloc(bytes);
  return *block == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaFreeHost(void* block) {
  std::free(block);
  return cudaSuccess;
}

cudaError_t cudaFree(void* block) {
  return block == nullptr || device_memory().give_back(block) ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  return queue([=] {
    const OpenMemory open;
    std::memcpy(to, from, bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  return queue([=] {
    const OpenMemory open;
    std::memset(to, value, bytes);
    return cudaSuccess;
  });
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

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = 0;  // device memory and the host's are apart
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

cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return captured == nullptr ? cudaSuccess : cudaErrorStreamCaptureUnsupported;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  if (captured != nullptr) return cudaErrorInvalidValue;
  captured = new CUgraph_st;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = std::exchange(captured, nullptr);
  return *graph == nullptr ? cudaErrorInvalidValue : cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph,
                                          unsigned long long) {
  *executable = new CUgraphExec_st{*graph};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  if (captured != nullptr) return cudaErrorStreamCaptureUnsupported;  // CUDA would make a part of it
  const OpenMemory open;                                              // once for all
  for (const auto& work : executable->work) {
    if (const cudaError_t status = work(); status != cudaSuccess) return status;
  }
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

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
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
  }
  return "unknown error";
}
