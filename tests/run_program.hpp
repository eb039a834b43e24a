// Runs the program as a user would and catches what it prints.
#pragma once

#include <sys/wait.h>

#include <doctest/doctest.h>

#include <array>
#include <cstdio>
#include <string>

namespace semivox {

struct ProgramResult {
  int exit_code = -1;  ///< -1 when a signal ended it
  std::string output;  ///< stdout and stderr together
};

/// `semivox <arguments>` through the shell.
inline ProgramResult run_program(const std::string& arguments) {
  FILE* pipe = popen((std::string(SEMIVOX_BINARY) + " " + arguments + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  ProgramResult result;
  std::array<char, 4096> buffer;
  for (size_t count; (count = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
    result.output.append(buffer.data(), count);
  }
  const int status = pclose(pipe);
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  return result;
}

}  // namespace semivox
