#include "engine/device.hpp"

#include <cstring>
#include <fstream>

#include "engine/cuda_runtime.hpp"
#include "engine/error.hpp"
#include "engine/parallel.hpp"
#include "engine/step_value.hpp"

namespace semivox {

std::string Device::name() const { return is_cuda() ? text("cuda:", index) : "cpu"; }

namespace {

std::string describe_cpu() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::string line, model = "unknown processor";
  while (std::getline(cpuinfo, line)) {
    if (line.rfind("model name", 0) == 0) {
      model = line.substr(line.find(':') + 2);
      break;
    }
  }
  return text("cpu: ", model, ", ", thread_count(), " threads");
}

}  // namespace

void require_host(Device device, const char* kernel) {
  SEMIVOX_CHECK(!device.is_cuda(), kernel, ": no device code");
}

Device parse_device(const std::string& word) {
  if (word == "cpu") return {};
  if (word == "auto") return cuda_device_count() > 0 ? Device{DeviceKind::cuda, 0} : Device{};
  const bool indexed = word.rfind("cuda:", 0) == 0 && word.size() > 5 && word.size() < 9 &&
                       word.find_first_not_of("0123456789", 5) == std::string::npos;
  if (word != "cuda" && !indexed) {
    throw UsageError(text("--device: found '", word, "', expected auto, cpu, cuda or cuda:<index>"));
  }
  const int index = indexed ? std::stoi(word.substr(5)) : 0;
  if (index >= cuda_device_count()) {
    const std::string reason = cuda_unavailable_reason();
    throw UsageError(text("--device ", word, ": ",
                          reason.empty() ? text("found ", cuda_device_count(), " CUDA devices") : reason));
  }
  return {DeviceKind::cuda, index};
}

#ifdef SEMIVOX_CUDA

namespace cuda {

void check(cudaError_t status, const char* what, const char* file, int line) {
  if (status == cudaSuccess) return;
  const std::string message = text(file, ":", line, ": ", what, ": ", cudaGetErrorString(status));
  if (status == cudaErrorMemoryAllocation) throw OutOfMemory(message);
  throw InternalError(message);
}

void use(int device_index) { SEMIVOX_CUDA_CALL(cudaSetDevice(device_index)); }

cudaStream_t stream(int device_index) {
  constexpr int kMaxDevices = 64;
  static cudaStream_t streams[kMaxDevices] = {};
  SEMIVOX_CHECK(device_index >= 0 && device_index < kMaxDevices, "device index ", device_index);
  if (streams[device_index] == nullptr) {
    use(device_index);
    SEMIVOX_CUDA_CALL(cudaStreamCreateWithFlags(&streams[device_index], cudaStreamNonBlocking));
  }
  return streams[device_index];
}

}  // namespace cuda

namespace {

struct CudaProbe {
  int count = 0;
  std::string reason;
  CudaProbe() {
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess) {
      count = 0;
      reason = text("CUDA cannot be used here: ", cudaGetErrorString(status));
      cudaGetLastError();  // clears the sticky status of the failed probe
    } else if (count == 0) {
      reason = "no CUDA device found";
    }
  }
};

const CudaProbe& cuda_probe() {
  static const CudaProbe probe;
  return probe;
}

/// True for a GPU that reads memory of the host that no CUDA call has allocated (HMM, address translation).
bool reads_host_pages(int device_index) {
  int found = 0;
  SEMIVOX_CUDA_CALL(cudaDeviceGetAttribute(&found, cudaDevAttrPageableMemoryAccess, device_index));
  return found != 0;
}

}  // namespace

bool cuda_compiled() { return true; }
int cuda_device_count() { return cuda_probe().count; }
std::string cuda_unavailable_reason() { return cuda_probe().reason; }

std::string describe_device(Device device) {
  if (!device.is_cuda()) return describe_cpu();
  cudaDeviceProp properties{};
  SEMIVOX_CUDA_CALL(cudaGetDeviceProperties(&properties, device.index));
  int driver = 0, runtime = 0;
  SEMIVOX_CUDA_CALL(cudaDriverGetVersion(&driver));
  SEMIVOX_CUDA_CALL(cudaRuntimeGetVersion(&runtime));
  return text(device.name(), ": ", properties.name, ", ", properties.totalGlobalMem >> 20, " MiB, sm_",
              properties.major, properties.minor, ", driver ", driver / 1000, ".", driver % 1000 / 10,
              ", runtime ", runtime / 1000, ".", runtime % 1000 / 10);
}

void synchronize(Device device) {
  if (device.is_cuda()) SEMIVOX_CUDA_CALL(cudaStreamSynchronize(cuda::stream(device.index)));
}

void copy_bytes(void* destination, Device destination_device, const void* source, Device source_device,
                size_t bytes) {
  if (bytes == 0) return;
  if (!destination_device.is_cuda() && !source_device.is_cuda()) {
    std::memcpy(destination, source, bytes);
    return;
  }
  const Device device = destination_device.is_cuda() ? destination_device : source_device;
  cuda::use(device.index);
  const cudaStream_t stream = cuda::stream(device.index);
  if (recording_step() && destination_device != source_device) {
    if (!destination_device.is_cuda()) {
      throw InternalError("the host reads a result of the iteration that is being recorded");
    }
    const StepRoom room = reserve_step_room(static_cast<int64_t>(bytes));
    std::memcpy(room.on_host, source, bytes);
    source = room.on_device;
    source_device = destination_device;
  }
  SEMIVOX_CUDA_CALL(cudaMemcpyAsync(destination, source, bytes, cudaMemcpyDefault, stream));
  // Bytes of the host, which are never page-locked here, have been taken over when the call returns, unless
  // the GPU itself can read the host's pages.
  const bool done = source_device.is_cuda() ? destination_device == source_device
                                            : !reads_host_pages(destination_device.index);
  if (!done) SEMIVOX_CUDA_CALL(cudaStreamSynchronize(stream));
}

void zero_bytes(void* destination, Device device, size_t bytes) {
  if (bytes == 0) return;
  if (!device.is_cuda()) {
    std::memset(destination, 0, bytes);
    return;
  }
  cuda::use(device.index);
  SEMIVOX_CUDA_CALL(cudaMemsetAsync(destination, 0, bytes, cuda::stream(device.index)));
}

#else

bool cuda_compiled() { return false; }
int cuda_device_count() { return 0; }
std::string cuda_unavailable_reason() { return "this semivox was built without CUDA"; }
std::string describe_device(Device) { return describe_cpu(); }
void synchronize(Device) {}

void copy_bytes(void* destination, Device, const void* source, Device, size_t bytes) {
  if (bytes > 0) std::memcpy(destination, source, bytes);
}

void zero_bytes(void* destination, Device, size_t bytes) {
  if (bytes > 0) std::memset(destination, 0, bytes);
}

#endif

}  // namespace semivox
