// Work on many cases, several at a time.
#pragma once

#include <cstdint>
#include <exception>
#include <vector>

namespace semivox::io {

/// Calls `action(i)` for i = 0 ... count-1 in parallel, then throws what the first of them (in order of i)
/// threw.
template <class Action>
void for_each_case(int64_t count, const Action& action) {
  std::vector<std::exception_ptr> failures(static_cast<size_t>(count));
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t i = 0; i < count; ++i) {
    try {
      action(i);
    } catch (...) {
      failures[static_cast<size_t>(i)] = std::current_exception();
    }
  }
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

}  // namespace semivox::io
