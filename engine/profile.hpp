// Named ranges around every op: seen by Nsight through NVTX in CUDA builds, and summed up in a table by
// `--profile`.
#pragma once

#include <cstdint>
#include <string>

#include "engine/device.hpp"

namespace semivox {

/// Opens a range for its lifetime. `name` must be a string literal ("conv.forward"). When the table is on,
/// the range is timed (on a GPU between two synchronisations, so the table is for analysis, not for
/// production speed).
class Range {
 public:
  explicit Range(const char* name, Device device = {});
  ~Range();
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;

 private:
  const char* name_;
  const char* outer_;
  Device device_;
  double start_ = 0;
};

/// Name of the innermost open range of this thread, "(no range)" outside.
const char* current_range();

/// Switches the per-op timer table on or off and clears it.
void enable_profile(bool on);
bool profile_enabled();

/// The table: name, calls, total and mean milliseconds, share; the time of a range without that of the ranges
/// inside it.
std::string profile_table();

/// Seconds of a steady clock.
double now_seconds();

}  // namespace semivox
