// What a run reports while it goes on: metrics.jsonl, one JSON object per iteration in full precision, and a
// progress line.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace semivox {

class RunLog {
 public:
  /// Opens `path` for appending. Lines of iterations >= `first_iteration` (from a run that was killed behind
  /// its last checkpoint) are taken out first. Throws DataError when the file cannot be written.
  RunLog(std::string path, int64_t first_iteration);
  ~RunLog();
  RunLog(const RunLog&) = delete;
  RunLog& operator=(const RunLog&) = delete;

  /// Appends {"iteration": ..., "phase": ..., values...}. Numbers read back equal; NaN and infinities become
  /// null.
  void write(int64_t iteration, const std::string& phase,
             const std::vector<std::pair<std::string, double>>& values);

 private:
  std::string path_;
  int descriptor_ = -1;
};

/// A progress display: one line that rewrites itself on a terminal, a plain line every `every` iterations
/// elsewhere.
class ProgressLine {
 public:
  ProgressLine(int64_t done, int64_t total, int64_t every);

  /// Reports that `done` iterations are finished.
  void update(int64_t done, const std::string& phase, double loss, int64_t memory);

  /// Prints a line of its own, above the progress line.
  void message(const std::string& line);

  /// Ends the progress line.
  void finish();

 private:
  int64_t first_, total_, every_;
  double start_, last_shown_ = 0;
  bool terminal_, open_ = false;
};

}  // namespace semivox
