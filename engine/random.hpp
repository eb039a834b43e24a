// Counter-based random numbers: Philox 4x32 with 10 rounds (Salmon et al., "Parallel random numbers: as easy
// as 1, 2, 3", SC 2011). A number is a pure function of (seed, stream, step, index): the same on CPU and GPU,
// for any number of threads, and nothing but counters has to be saved to resume a run or to regenerate a
// dropout mask.
#pragma once

#include <cmath>
#include <cstdint>

#include "engine/hd.hpp"
#include "engine/step_value.hpp"

namespace semivox {

struct PhiloxBlock {
  uint32_t word[4];
};

/// Ten Philox rounds on a 128-bit counter with a 64-bit key.
SEMIVOX_HD inline PhiloxBlock philox(uint64_t key, uint64_t counter_low, uint64_t counter_high) {
  uint32_t c0 = static_cast<uint32_t>(counter_low), c1 = static_cast<uint32_t>(counter_low >> 32);
  uint32_t c2 = static_cast<uint32_t>(counter_high), c3 = static_cast<uint32_t>(counter_high >> 32);
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0;
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

/// A 32-bit word as a float in (0, 1): 23 bits and a half, the most that a float holds without rounding up
/// to 1.
SEMIVOX_HD inline float unit_float(uint32_t word) {
  return (static_cast<float>(word >> 9) + 0.5f) * 0x1p-23f;
}

/// One random stream: what is drawn where is fixed by `seed`, `step` (the iteration) and `stream` (which draw
/// of it). Host code that may be recorded draws from `now()`.
struct RandomStream {
  uint64_t seed = 0;
  StepValue<uint64_t> step = 0;
  uint64_t stream = 0;

  /// The stream as it is in the current iteration.
  RandomStream now() const { return {seed, step.now(), stream}; }

  SEMIVOX_HD PhiloxBlock block(uint64_t index) const {
    return philox(seed, index, (step.get() << 24) ^ stream);
  }

  /// Uniform in (0, 1).
  SEMIVOX_HD float uniform(uint64_t index) const { return unit_float(block(index / 4).word[index % 4]); }

  /// Standard normals number 4k ... 4k+3, by Box and Muller from one Philox block.
  SEMIVOX_HD void normals(uint64_t k, float (&out)[4]) const {
    const PhiloxBlock b = block(k);
    for (int pair = 0; pair < 2; ++pair) {
      const float radius = sqrtf(-2.0f * logf(unit_float(b.word[2 * pair])));
      const float angle = 6.283185307179586f * unit_float(b.word[2 * pair + 1]);
      out[2 * pair] = radius * cosf(angle);
      out[2 * pair + 1] = radius * sinf(angle);
    }
  }

  /// Standard normal number `index`.
  SEMIVOX_HD float normal(uint64_t index) const {
    float four[4];
    normals(index / 4, four);
    return four[index % 4];
  }

  /// Uniform integer in 0 ... bound-1 (bound < 2^32), without modulo bias beyond 2^-32.
  SEMIVOX_HD int64_t integer(uint64_t index, int64_t bound) const {
    return static_cast<int64_t>(
        (static_cast<uint64_t>(block(index / 4).word[index % 4]) * static_cast<uint64_t>(bound)) >> 32);
  }
};

/// Hands out the streams of one iteration in call order; the state is (seed, step) alone.
class Random {
 public:
  Random(uint64_t seed, StepValue<uint64_t> step) : seed_(seed), step_(step) {}
  RandomStream next() { return {seed_, step_, next_++}; }

 private:
  uint64_t seed_;
  StepValue<uint64_t> step_;
  uint64_t next_ = 0;
};

}  // namespace semivox
