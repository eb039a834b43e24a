// Values of a tensor by formula.
#pragma once

#include <cstdint>

#include "engine/tensor.hpp"

namespace semivox::testing {

/// Sets element i, in memory order, to f(i).
template <class F>
void assign(const Tensor& t, const F& f) {
  dispatch_float(t.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (int64_t i = 0; i < t.elements(); ++i)
      t.data<T>()[i] = static_cast<T>(static_cast<compute_t<T>>(f(static_cast<uint32_t>(i))));
  });
}

}  // namespace semivox::testing
