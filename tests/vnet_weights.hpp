// Weights by formula for the tests of V-Net, and parameters by name.
#pragma once

#include <cmath>
#include <cstdint>
#include <deque>
#include <string>

#include "engine/parameters.hpp"
#include "tests/assign.hpp"
#include "tests/hash_noise.hpp"

namespace semivox::testing {

inline bool ends_with(const std::string& word, const std::string& end) {
  return word.size() >= end.size() && word.compare(word.size() - end.size(), end.size(), end) == 0;
}

/// Tensor p in enumeration order: convolution weight sqrt(6 / fan) u, fan = Cin k^3, or Cin of a transposed
/// one; norm weight 1 + 0.1 u; biases 0.05 u; slopes of PReLU 0.25 + 0.1 u.
inline void fill_weights(ParameterSet& set) {
  uint32_t p = 0;
  for (Parameter& parameter : set.parameters()) {
    const uint32_t number = p++;
    if (parameter.dims.size() == 5) {
      const bool transposed =
          parameter.name.find("up_") == 0 || parameter.name.find("_up.") != std::string::npos;
      const int64_t volume = parameter.dims[2] * parameter.dims[3] * parameter.dims[4];
      const double fan = static_cast<double>(transposed ? parameter.dims[0] : parameter.dims[1] * volume);
      assign(parameter.value, [&](uint32_t i) { return std::sqrt(6 / fan) * hash_noise(i, number); });
    } else if (ends_with(parameter.name, "slope")) {
      assign(parameter.value, [&](uint32_t i) { return 0.25 + 0.1 * hash_noise(i, number); });
    } else if (ends_with(parameter.name, "weight")) {
      assign(parameter.value, [&](uint32_t i) { return 1 + 0.1 * hash_noise(i, number); });
    } else {
      assign(parameter.value, [&](uint32_t i) { return 0.05 * hash_noise(i, number); });
    }
  }
  for (Parameter& buffer : set.buffers())
    assign(buffer.value, [&](uint32_t) { return buffer.initializer.value; });
  set.touch();
}

inline const Parameter& named(const std::deque<Parameter>& list, const std::string& name) {
  for (const Parameter& p : list)
    if (p.name == name) return p;
  throw InternalError("no parameter " + name);
}

}  // namespace semivox::testing
