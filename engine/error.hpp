// Errors: one exception type per exit code of the program, and the check macro that names file and line.
//
// User mistakes (a bad option, a broken file) throw UsageError or DataError with a message that a person can
// act on: which file, which field, what was found, what was expected. SEMIVOX_CHECK guards against mistakes
// of the program itself and adds the source position.
#pragma once

#include <stdexcept>
#include <string>

#include "engine/text.hpp"

namespace semivox {

/// Base of all errors thrown by semivox; `exit_code` is what the command line returns for it.
class Error : public std::runtime_error {
 public:
  Error(int exit_code, const std::string& message) : std::runtime_error(message), exit_code(exit_code) {}
  const int exit_code;
};

/// A defect of the program, exit code 1.
class InternalError : public Error {
 public:
  explicit InternalError(const std::string& message) : Error(1, message) {}
};

/// Wrong command line, configuration or combination of options, exit code 2.
class UsageError : public Error {
 public:
  explicit UsageError(const std::string& message) : Error(2, message) {}
};

/// A loss that is no number any more: the settings do not fit, exit code 2.
class Diverged : public UsageError {
 public:
  using UsageError::UsageError;
};

/// A file or data set that cannot be read, written or used, exit code 3.
class DataError : public Error {
 public:
  explicit DataError(const std::string& message) : Error(3, message) {}
};

/// Host or device memory is exhausted, exit code 4.
class OutOfMemory : public Error {
 public:
  explicit OutOfMemory(const std::string& message) : Error(4, message) {}
};

/// The run was asked to stop and has saved its state, exit code 5.
class Interrupted : public Error {
 public:
  explicit Interrupted(const std::string& message) : Error(5, message) {}
};

/// What SEMIVOX_CHECK throws.
[[noreturn]] void check_failed(const char* file, int line, const char* condition, const std::string& message);

}  // namespace semivox

/// Throws InternalError with position, condition and message when `condition` does not hold.
#define SEMIVOX_CHECK(condition, ...)                                                                        \
  do {                                                                                                       \
    if (!(condition)) ::semivox::check_failed(__FILE__, __LINE__, #condition, ::semivox::text(__VA_ARGS__)); \
  } while (false)
