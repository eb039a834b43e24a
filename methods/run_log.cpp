#include "methods/run_log.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/atomic_file.hpp"
#include "engine/error.hpp"
#include "engine/memory.hpp"
#include "engine/profile.hpp"

namespace semivox {

namespace {

std::string json_number(double value) {
  if (!std::isfinite(value)) return "null";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return {buffer, end};
}

// The lines of iterations before `first_iteration`; a last line cut off by a kill does not parse and is
// dropped, too.
std::string kept_lines(const std::string& path, int64_t first_iteration) {
  std::ifstream in(path);
  std::string kept, line;
  while (std::getline(in, line)) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (json.is_discarded() || !json.contains("iteration") || !json["iteration"].is_number_integer())
      continue;
    if (json["iteration"].get<int64_t>() < first_iteration) kept += line + "\n";
  }
  return kept;
}

}  // namespace

RunLog::RunLog(std::string path, int64_t first_iteration) : path_(std::move(path)) {
  const std::string kept = first_iteration > 0 ? kept_lines(path_, first_iteration) : "";
  write_file(path_, kept);
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (descriptor_ < 0) throw DataError(text(path_, ": cannot open for writing: ", std::strerror(errno)));
}

RunLog::~RunLog() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void RunLog::write(int64_t iteration, const std::string& phase,
                   const std::vector<std::pair<std::string, double>>& values) {
  std::string line = text("{\"iteration\": ", iteration, ", \"phase\": \"", phase, "\"");
  for (const auto& [name, value] : values) line += text(", \"", name, "\": ", json_number(value));
  line += "}\n";
  const char* from = line.data();
  size_t left = line.size();
  while (left > 0) {
    const ssize_t written = ::write(descriptor_, from, left);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw DataError(text(path_, ": cannot write: ", std::strerror(errno)));
    from += written;
    left -= static_cast<size_t>(written);
  }
}

ProgressLine::ProgressLine(int64_t done, int64_t total, int64_t every)
    : first_(done),
      total_(total),
      every_(std::max<int64_t>(every, 1)),
      start_(now_seconds()),
      terminal_(isatty(STDOUT_FILENO) != 0) {}

void ProgressLine::update(int64_t done, const std::string& phase, double loss, int64_t memory) {
  const double now = now_seconds();
  const bool due =
      terminal_ ? now - last_shown_ > 0.2 || done == total_ : done % every_ == 0 || done == total_;
  if (!due) return;
  last_shown_ = now;
  const double rate = static_cast<double>(done - first_) / std::max(now - start_, 1e-9);
  const double left = static_cast<double>(total_ - done) / std::max(rate, 1e-9);
  char line[200];
  std::snprintf(line, sizeof line, "%s %lld/%lld  loss %.4f  %.2f it/s  %02d:%02d left  %s", phase.c_str(),
                static_cast<long long>(done), static_cast<long long>(total_), loss, rate,
                static_cast<int>(left / 60), static_cast<int>(left) % 60, format_bytes(memory).c_str());
  if (terminal_) {
    std::printf("\r%-100s", line);
    open_ = true;
  } else {
    std::printf("%s\n", line);
  }
  std::fflush(stdout);
}

void ProgressLine::message(const std::string& line) {
  if (open_) std::printf("\r%-100s\r", "");
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
  open_ = false;
}

void ProgressLine::finish() {
  if (open_) std::printf("\n");
  std::fflush(stdout);
  open_ = false;
}

}  // namespace semivox
