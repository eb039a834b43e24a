// Where tensors live and kernels run: the CPU, or one CUDA device with one compute stream.
#pragma once

#include <cstddef>
#include <string>

namespace semivox {

enum class DeviceKind { cpu, cuda };

struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int index = 0;

  bool is_cuda() const { return kind == DeviceKind::cuda; }
  bool operator==(const Device&) const = default;
  std::string name() const;  ///< "cpu" or "cuda:<index>"
};

/// True when the program was built with CUDA.
bool cuda_compiled();

/// Number of usable CUDA devices; 0 without a driver, without a device or in a CPU build.
int cuda_device_count();

/// Why no CUDA device can be used, in a few words; empty when one can.
std::string cuda_unavailable_reason();

/// Throws InternalError when the device is a GPU: `kernel` has no code for it.
void require_host(Device device, const char* kernel);

/// "auto" (CUDA when there is a device, else the CPU), "cpu", "cuda" or "cuda:<index>".
/// Throws UsageError for another word or for a device that is not there.
Device parse_device(const std::string& word);

/// One line about the device: processor or GPU name, memory, driver and library versions.
std::string describe_device(Device device);

/// Waits until everything queued on the device is done; nothing to do on the CPU.
void synchronize(Device device);

/// Copies `bytes` between any two devices, in order with the GPU's stream. Data for the host has arrived when
/// this returns, data for a GPU may still be on its way; the source may be overwritten in any case. While an
/// iteration is recorded (engine/step_recording.hpp), bytes from the host become part of it, and a copy to
/// the host throws InternalError.
void copy_bytes(void* destination, Device destination_device, const void* source, Device source_device,
                size_t bytes);

/// Sets `bytes` bytes to zero, in order with the device's stream.
void zero_bytes(void* destination, Device device, size_t bytes);

}  // namespace semivox
