// Threads on the CPU: fixed blocks, so that results never depend on the number of threads.
#pragma once

#include <cstdint>

namespace semivox {

/// Number of threads used by semivox and by the CPU libraries below it.
int thread_count();

/// Sets that number, at least 1; call before the first computation.
void set_thread_count(int threads);

/// Calls `f(begin, end)` for the consecutive blocks of `block` indices that cover 0 ... n-1, spread over the
/// threads. The blocks depend on `n` and `block` alone. `f` must not throw.
template <class F>
void parallel_blocks(int64_t n, int64_t block, const F& f) {
  const int64_t blocks = (n + block - 1) / block;
#pragma omp parallel for schedule(static) if (blocks > 1)
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t begin = b * block;
    f(begin, begin + block < n ? begin + block : n);
  }
}

}  // namespace semivox
