// Runs the same code on the CPU and on the emulated device, there under several orders of the threads.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/arithmetic.hpp"
#include "engine/random.hpp"
#include "engine/tensor.hpp"

namespace semivox {

inline const Device kCpu{};
inline const Device kEmulated{DeviceKind::cuda, 0};

/// Uniform values in (-1, 1).
inline Tensor noise(Shape shape, uint64_t seed, DType dtype = DType::f32) {
  Tensor t = Tensor::empty(shape, DType::f32, kCpu);
  const RandomStream random{seed, 0, 0};
  for (int64_t i = 0; i < t.elements(); ++i) {
    t.data<float>()[i] = 2 * random.uniform(static_cast<uint64_t>(i)) - 1;
  }
  return cast(t, dtype);
}

/// u8 values 0 ... classes-1, or only zeros and ones where `ones` of the voxels are ones.
inline Tensor labels(Shape shape, uint64_t seed, int classes, double ones = -1) {
  Tensor t = Tensor::empty(shape.with_channels(1), DType::u8, kCpu);
  const RandomStream random{seed, 1, 0};
  for (int64_t i = 0; i < t.elements(); ++i) {
    const auto index = static_cast<uint64_t>(i);
    t.data<uint8_t>()[i] = static_cast<uint8_t>(ones < 0 ? random.integer(index, classes)
                                                         : random.uniform(index) < static_cast<float>(ones));
  }
  return t;
}

/// Largest difference over the root mean square of the expected values; infinite for a NaN or a wrong
/// infinity.
inline double deviation(const std::vector<double>& found, const std::vector<double>& expected) {
  REQUIRE(found.size() == expected.size());
  double largest = 0, square = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    if (found[i] == expected[i]) continue;
    const double difference = std::abs(found[i] - expected[i]);
    largest = std::isfinite(difference) ? std::max(largest, difference) : INFINITY;
  }
  for (const double value : expected) square += value * value;
  return largest == 0 ? 0 : largest / std::sqrt(square / static_cast<double>(expected.size()));
}

/// `run(device)` makes a list of tensors. Those of the device must lie within `tolerances`, the last of which
/// holds for all that follow, of the CPU's (see `deviation`; 0: the same numbers), and must be the same
/// numbers for every order of the threads.
template <class F>
void compare(const std::vector<double>& tolerances, const F& run) {
  std::vector<std::vector<double>> expected, first;
  for (const Tensor& tensor : run(kCpu)) expected.push_back(tensor.to_doubles());
  for (const uint64_t seed : {0, 1, 2}) {
    CAPTURE(seed);
    emulator::set_seed(seed);
    release_cached_memory(kEmulated);  // fresh memory is NaN
    std::vector<std::vector<double>> found;
    for (const Tensor& tensor : run(kEmulated)) {
      REQUIRE(tensor.device() == kEmulated);
      found.push_back(tensor.to_doubles());
    }
    REQUIRE(found.size() == expected.size());
    for (size_t i = 0; i < found.size(); ++i) {
      CAPTURE(i);
      CHECK(deviation(found[i], expected[i]) <= tolerances[std::min(i, tolerances.size() - 1)]);
      if (seed > 0) CHECK(deviation(found[i], first[i]) == 0);
    }
    if (seed == 0) first = std::move(found);
  }
}

}  // namespace semivox
