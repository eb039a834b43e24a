// SIGINT, SIGTERM and SIGHUP as requests, for work that saves what it has before it stops.
#pragma once

namespace semivox {

/// While one is alive the signals only leave a note, which the work looks for where it can stop. They may be
/// nested; the handlers from before the first return with its end.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// Whether a signal has come since the first of them was made.
  static bool stop_requested();
};

}  // namespace semivox
