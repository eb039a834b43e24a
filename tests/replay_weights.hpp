// The weights that tests/goldens/vnet_reference.py gives a V-Net of four filters before a replay.
#pragma once

#include <cmath>

#include "layers/network.hpp"
#include "tests/hash_noise.hpp"

namespace semivox::testing {

/// Parameter p takes noise number first + p, rounded to f32; running statistics get their first values.
inline void fill_replay_weights(ParameterSet& set, int64_t first = 0) {
  int64_t p = first;
  for (Parameter& parameter : set.parameters()) {
    const std::string& name = parameter.name;
    double scale = 0.05, offset = 0;
    if (parameter.dims.size() == 5) {
      const bool transposed = name.find("_up.") != std::string::npos;
      const int64_t volume = parameter.dims[2] * parameter.dims[3] * parameter.dims[4];
      scale = std::sqrt(6 / static_cast<double>(transposed ? parameter.dims[0] : parameter.dims[1] * volume));
    } else if (name.size() > 7 && name.substr(name.size() - 7) == ".weight") {
      scale = 0.1;
      offset = 1;
    }
    dispatch_float(parameter.value.dtype(), [&](auto zero) {
      using T = decltype(zero);
      for (int64_t i = 0; i < parameter.value.elements(); ++i)
        parameter.value.data<T>()[i] = static_cast<float>(offset + scale * hash_noise(i, p));
    });
    ++p;
  }
  for (Parameter& buffer : set.buffers()) {
    dispatch_float(buffer.value.dtype(), [&](auto zero) {
      using T = decltype(zero);
      for (int64_t i = 0; i < buffer.value.elements(); ++i)
        buffer.value.data<T>()[i] = static_cast<float>(buffer.initializer.value);
    });
  }
  set.touch();
}

}  // namespace semivox::testing
