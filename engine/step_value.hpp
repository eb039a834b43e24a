// What changes from one training iteration to the next although the work is the same: ramps, learning rates,
// random counters, drawn boxes.
//
// On a GPU an iteration can be recorded once and replayed (engine/step_recording.hpp). Replaying runs no host
// code of the iteration, so what kernels got as arguments stays as it was when it was recorded. Everything
// that is to change goes through this file: while a recording is under way, values are put into memory that
// kernels read, and the functions that calculate them are kept and called again before every replay.
// Otherwise a value is simply calculated where it stands.
#pragma once

#include <cstdint>
#include <functional>
#include <type_traits>
#include <vector>

#include "engine/hd.hpp"
#include "engine/tensor.hpp"

namespace semivox {

/// A value for kernels, which read it with `get()`; the host reads it with `now()`.
template <class T>
struct StepValue {
  T value{};                     ///< when the work was queued
  const T* on_device = nullptr;  ///< in a recorded iteration: the current value for kernels
  const T* on_host = nullptr;    ///< likewise for the host

  StepValue() = default;
  SEMIVOX_HD StepValue(T known) : value(known) {}

  SEMIVOX_HD T get() const {
#ifdef __CUDA_ARCH__
    if (on_device != nullptr) return *on_device;
#endif
    return value;
  }
  T now() const { return on_host != nullptr ? *on_host : value; }
};

using StepNumber = StepValue<double>;

/// True while an iteration is being recorded.
bool recording_step();

/// Room in the memory that is sent to the device before every replay. The recording must be under way.
struct StepRoom {
  void* on_host;
  void* on_device;
};
StepRoom reserve_step_room(int64_t bytes);

/// Keeps `action` for the replays; calls of kept actions come in the order of keeping.
void keep_step_action(std::function<void()> action);

/// Calls `action` now and, when an iteration is being recorded, in every replay.
template <class F>
void in_every_step(const F& action) {
  action();
  if (recording_step()) keep_step_action(action);
}

/// The value of `calculate()`: now and, when an iteration is being recorded, before every replay.
template <class F>
auto step_value(const F& calculate) {
  using T = std::invoke_result_t<F>;
  static_assert(std::is_trivially_copyable_v<T>);
  StepValue<T> result(calculate());
  if (!recording_step()) return result;
  const StepRoom room = reserve_step_room(sizeof(T));
  T* const host = static_cast<T*>(room.on_host);
  *host = result.value;
  keep_step_action([host, calculate] { *host = calculate(); });
  result.on_host = host;
  result.on_device = static_cast<const T*>(room.on_device);
  return result;
}

/// `count` values of type T on the device, as (1, count * sizeof(T), 1, 1, 1) u8. `fill(T* values)` writes
/// them on the host: now and, when an iteration is being recorded, before every replay.
template <class T, class F>
Tensor step_table(Device device, int64_t count, const F& fill) {
  static_assert(std::is_trivially_copyable_v<T>);
  const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
  const Tensor table = Tensor::empty({1, bytes, 1, 1, 1}, DType::u8, device, MemoryTag::workspace);
  if (recording_step()) {
    const StepRoom room = reserve_step_room(bytes);
    T* const host = static_cast<T*>(room.on_host);
    fill(host);
    keep_step_action([host, fill] { fill(host); });
    copy_bytes(table.raw(), device, room.on_device, device, static_cast<size_t>(bytes));
  } else {
    std::vector<T> values(static_cast<size_t>(count));
    fill(values.data());
    copy_bytes(table.raw(), device, values.data(), Device{}, static_cast<size_t>(bytes));
  }
  return table;
}

}  // namespace semivox
