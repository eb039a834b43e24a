// The program in a process of its own, which tests wait for or send signals to.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/temporary_folder.hpp"

namespace semivox {

/// How a process ended.
struct Outcome {
  int exit_code = -1;  ///< -1 when a signal ended it
  std::string output, error;
};

/// The program in a process of its own; its stdout and stderr go to files in the folder.
class Process {
 public:
  Process(const TemporaryFolder& folder, const std::string& arguments)
      : output_(folder / "stdout"), error_(folder / "stderr") {
    std::vector<std::string> words{SEMIVOX_BINARY};
    std::istringstream split(arguments);
    for (std::string word; split >> word;) words.push_back(word);
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    id_ = fork();
    REQUIRE(id_ >= 0);
    if (id_ == 0) {
      const int flags = O_WRONLY | O_CREAT | O_TRUNC;
      dup2(open(output_.c_str(), flags, 0644), STDOUT_FILENO);
      dup2(open(error_.c_str(), flags, 0644), STDERR_FILENO);
      execv(argv[0], argv.data());
      _exit(127);
    }
  }

  void send(int signal) const { kill(id_, signal); }

  Outcome wait() const {
    int status = 0;
    REQUIRE(waitpid(id_, &status, 0) == id_);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_bytes(output_), read_bytes(error_)};
  }

 private:
  std::string output_, error_;
  pid_t id_ = -1;
};

/// Runs the program to its end.
inline Outcome run(const TemporaryFolder& folder, const std::string& arguments) {
  return Process(folder, arguments).wait();
}

inline int64_t lines_in(const std::string& content) {
  return std::count(content.begin(), content.end(), '\n');
}

/// Starts the program, and sends it a signal as soon as its log has so many iterations.
inline Outcome run_until(const TemporaryFolder& folder, const std::string& arguments, const std::string& out,
                         int64_t iterations, int signal) {
  const Process process(folder, arguments + " --out " + out);
  const auto start = std::chrono::steady_clock::now();
  while (lines_in(read_bytes(out + "/metrics.jsonl")) < iterations &&
         std::chrono::steady_clock::now() - start < std::chrono::minutes(2)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  process.send(signal);
  return process.wait();
}

}  // namespace semivox
