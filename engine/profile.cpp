#include "engine/profile.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#ifdef SEMIVOX_CUDA
#include <nvtx3/nvToolsExt.h>
#endif

namespace semivox {

namespace {

struct TimedEntry {
  int64_t calls = 0;
  double seconds = 0;
};

bool enabled = false;
std::map<std::string, TimedEntry> entries;
thread_local const char* innermost = "(no range)";
thread_local double inner_seconds = 0;  // time spent in the ranges inside the open one

}  // namespace

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Range::Range(const char* name, Device device) : name_(name), outer_(innermost), device_(device) {
  innermost = name;
#ifdef SEMIVOX_CUDA
  nvtxRangePushA(name);
#endif
  if (!enabled) return;
  synchronize(device_);
  start_ = now_seconds() -
           inner_seconds;  // inner_seconds is subtracted again at the end: leaves this range's own time
}

Range::~Range() {
  innermost = outer_;
#ifdef SEMIVOX_CUDA
  nvtxRangePop();
#endif
  if (!enabled || start_ == 0) return;
  try {
    synchronize(device_);
    const double own = now_seconds() - start_ - inner_seconds;
    inner_seconds += own;
    TimedEntry& entry = entries[name_];
    entry.calls += 1;
    entry.seconds += own;
  } catch (...) {  // a destructor must not throw; the failed call will be reported by the next checked one
  }
}

const char* current_range() { return innermost; }

void enable_profile(bool on) {
  enabled = on;
  entries.clear();
}

bool profile_enabled() { return enabled; }

std::string profile_table() {
  std::vector<std::pair<std::string, TimedEntry>> rows(entries.begin(), entries.end());
  std::sort(rows.begin(), rows.end(),
            [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  double total = 0;
  for (const auto& [name, entry] : rows) total += entry.seconds;
  char line[160];
  std::snprintf(line, sizeof line, "%-36s %8s %12s %10s %7s\n", "range", "calls", "total ms", "mean ms",
                "share");
  std::string table = line;
  for (const auto& [name, entry] : rows) {
    std::snprintf(line, sizeof line, "%-36s %8lld %12.2f %10.3f %6.1f%%\n", name.c_str(),
                  static_cast<long long>(entry.calls), entry.seconds * 1e3,
                  entry.seconds * 1e3 / static_cast<double>(entry.calls), 100 * entry.seconds / total);
    table += line;
  }
  return table;
}

}  // namespace semivox
