#include "engine/launch.hpp"

namespace semivox::kernels {

namespace {

struct CombinePartials {
  const double* partials;  // (samples, blocks, terms)
  double* sums;            // (samples, terms)
  int64_t blocks, terms;
  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t sample = i / terms, k = i % terms;
    double total = 0;
    for (int64_t b = 0; b < blocks; ++b) total += partials[(sample * blocks + b) * terms + k];
    sums[i] = total;
  }
};

}  // namespace

void combine_partials(Device device, int64_t samples, int64_t blocks, int64_t terms, const double* partials,
                      double* sums) {
  map(device, "combine_partials", samples * terms, CombinePartials{partials, sums, blocks, terms});
}

}  // namespace semivox::kernels
