// Gradients against central differences in f64, for anything that ends in one number.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "engine/parallel.hpp"
#include "engine/tensor.hpp"

namespace semivox::testing {

/// One thread while it lives: for many tiny evaluations, where waking the other threads takes longest.
struct OneThread {
  const int threads = thread_count();
  OneThread() { set_thread_count(1); }
  ~OneThread() { set_thread_count(threads); }
};

/// Step and tolerance of a check. The error is taken relative to the largest element of the gradient, or to
/// `floor` where the whole gradient is smaller than that (a bias in front of a normalisation). The step is
/// small so that a perturbation hardly ever crosses a kink of an activation.
struct GradientOptions {
  double step = 1e-6;
  double tolerance = 1e-6;
  double floor = 0.1;
  int64_t elements = 1000;  ///< at most so many elements, spread over the tensor
};

/// Compares `gradient` (what a backward pass gave for `value`) with (f(v + h) - f(v - h)) / 2h, element by
/// element. `value` is f64 on the CPU, is changed in place and put back; `f` evaluates the number from
/// scratch and reads `value`. Returns the largest relative error.
inline double check_gradient(const std::string& name, const Tensor& value, const Tensor& gradient,
                             const std::function<double()>& f, const GradientOptions& options = {}) {
  const OneThread one_thread;
  INFO("gradient of ", name);
  REQUIRE(gradient.defined());
  REQUIRE(gradient.elements() == value.elements());
  const int64_t count = value.elements();
  const int64_t stride = std::max<int64_t>(1, (count + options.elements - 1) / options.elements);
  double* v = value.data<double>();
  const double* g = gradient.data<double>();
  double scale = options.floor, largest = 0;
  int64_t worst = 0;
  for (int64_t i = 0; i < count; ++i) scale = std::max(scale, std::abs(g[i]));
  for (int64_t i = 0; i < count; i += stride) {
    const double kept = v[i];
    v[i] = kept + options.step;
    const double above = f();
    v[i] = kept - options.step;
    const double below = f();
    v[i] = kept;
    const double error = std::abs((above - below) / (2 * options.step) - g[i]) / scale;
    if (!(error <= largest)) {  // also a NaN
      largest = error;
      worst = i;
    }
  }
  INFO("worst at element ", worst, ": ", g[worst], " of at most ", scale);
  CHECK(largest < options.tolerance);
  return largest;
}

/// The same for many tensors at once, along one direction: d/dt f(v + t * direction) against the sum of
/// gradient * direction. For networks, where one evaluation is dear. Returns the relative error.
inline double check_directional_gradient(const std::string& name, const std::vector<Tensor>& values,
                                         const std::vector<Tensor>& gradients,
                                         const std::vector<Tensor>& directions,
                                         const std::function<double()>& f,
                                         const GradientOptions& options = {}) {
  INFO("gradient of ", name, " along a direction");
  double expected = 0;
  const auto move = [&](double t) {
    for (size_t k = 0; k < values.size(); ++k) {
      for (int64_t i = 0; i < values[k].elements(); ++i)
        values[k].data<double>()[i] += t * directions[k].data<double>()[i];
    }
  };
  for (size_t k = 0; k < values.size(); ++k) {
    REQUIRE(gradients[k].elements() == values[k].elements());
    for (int64_t i = 0; i < values[k].elements(); ++i)
      expected += gradients[k].data<double>()[i] * directions[k].data<double>()[i];
  }
  std::vector<Tensor> kept;
  for (const Tensor& value : values) kept.push_back(value.clone());
  const auto put_back = [&] {
    for (size_t k = 0; k < values.size(); ++k) Tensor(values[k]).copy_from(kept[k]);
  };
  move(options.step);
  const double above = f();
  put_back();
  move(-options.step);
  const double below = f();
  put_back();
  const double found = (above - below) / (2 * options.step);
  const double error = std::abs(found - expected) / std::max(options.floor, std::abs(expected));
  INFO("differences ", found, ", backward ", expected);
  CHECK(error < options.tolerance);
  return error;
}

}  // namespace semivox::testing
