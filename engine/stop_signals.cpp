#include "engine/stop_signals.hpp"

#include <array>
#include <csignal>

namespace semivox {

namespace {

constexpr std::array<int, 3> kSignals{SIGINT, SIGTERM, SIGHUP};

volatile std::sig_atomic_t requested = 0;
int alive = 0;
std::array<void (*)(int), kSignals.size()> handlers_before;

void request_stop(int) { requested = 1; }

}  // namespace

StopSignals::StopSignals() {
  if (alive++ > 0) return;
  requested = 0;
  for (size_t i = 0; i < kSignals.size(); ++i) {
    handlers_before[i] = std::signal(kSignals[i], request_stop);
    // nohup's wish stands: who ignores a signal goes on ignoring it.
    if (handlers_before[i] == SIG_IGN) std::signal(kSignals[i], SIG_IGN);
  }
}

StopSignals::~StopSignals() {
  if (--alive > 0) return;
  for (size_t i = 0; i < kSignals.size(); ++i) std::signal(kSignals[i], handlers_before[i]);
}

bool StopSignals::stop_requested() { return requested != 0; }

}  // namespace semivox
