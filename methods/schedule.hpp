// Schedules: learning rates and ramp-ups as functions of the iteration.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace semivox {

struct LearningRate {
  enum class Kind { constant, step, poly, warmup_poly };
  Kind kind = Kind::step;
  double base = 0.01;
  int64_t every = 2500;  ///< step: multiplied by `factor` after this many iterations, again and again;
                         ///< warmup_poly: iterations per epoch
  double factor = 0.1;
  double power = 0.9;  ///< poly: base * (1 - t/iterations)^power
  int64_t warmup = 5;  ///< warmup_poly: epochs
  int64_t iterations = 6000;

  /// Learning rate of iteration t = 0, 1, ... For poly, iterations 0 and 1 both use the base, as the
  /// references set the rate for the next iteration from the counter before its increment. warmup_poly
  /// changes once per epoch e: base * (0.01 + 0.99 e/warmup) up to e = warmup, then
  /// base * (1 - (e - warmup)/(epochs - warmup))^power.
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
      case Kind::warmup_poly: {
        const int64_t epoch = t / every, epochs = (iterations + every - 1) / every;
        if (epoch <= warmup && warmup > 0)
          return base * (0.01 + 0.99 * static_cast<double>(epoch) / static_cast<double>(warmup));
        const double done = static_cast<double>(epoch - warmup) / static_cast<double>(epochs - warmup);
        return base * std::pow(1.0 - done, power);
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
