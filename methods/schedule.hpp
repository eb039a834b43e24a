// Schedules: learning rates and ramp-ups as functions of the iteration.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

namespace semivox {

struct LearningRate {
  enum class Kind { constant, step, poly };
  Kind kind = Kind::step;
  double base = 0.01;
  int64_t every = 2500;  ///< step: multiplied by `factor` after this many iterations, again and again
  double factor = 0.1;
  double power = 0.9;  ///< poly: base * (1 - t/iterations)^power
  int64_t iterations = 6000;

  /// Learning rate of iteration t = 0, 1, ... For poly, iterations 0 and 1 both use the base, as the
  /// references set the rate for the next iteration from the counter before its increment.
  double at(int64_t t) const {
    switch (kind) {
      case Kind::constant:
        return base;
      case Kind::step:
        return base * std::pow(factor, static_cast<double>(t / every));
      case Kind::poly: {
        const double done =
            static_cast<double>(std::max<int64_t>(t - 1, 0)) / static_cast<double>(iterations);
        return base * std::pow(1.0 - std::min(done, 1.0), power);
      }
    }
    return base;
  }
};

/// exp(-5 (1 - t/length)^2) for 0 <= t < length, 1 from there on: the sigmoid ramp-up of Laine and Aila,
/// "Temporal ensembling for semi-supervised learning", ICLR 2017. length 0 gives 1.
inline double sigmoid_rampup(double t, double length) {
  if (length <= 0) return 1.0;
  const double phase = 1.0 - std::clamp(t, 0.0, length) / length;
  return std::exp(-5.0 * phase * phase);
}

/// The staircase that the papers' code multiplies its consistency terms by: the ramp over `length` units of
/// `unit` iterations, evaluated at the whole units done.
inline double staircase_rampup(int64_t iteration, int64_t unit, int64_t length) {
  return sigmoid_rampup(static_cast<double>(iteration / unit), static_cast<double>(length));
}

}  // namespace semivox
