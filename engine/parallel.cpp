#include "engine/parallel.hpp"

#include <omp.h>

namespace semivox {

int thread_count() { return omp_get_max_threads(); }

void set_thread_count(int threads) { omp_set_num_threads(threads < 1 ? 1 : threads); }

}  // namespace semivox
