// exp and log in f32 against those of the library in f64.

#include "kernels/elementary.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

using namespace semivox;

namespace {

/// Distance of `found` from `expected` in units of the last place of `expected` as a float.
double units(float found, double expected) {
  const auto rounded = static_cast<float>(expected);
  const double unit =
      std::nextafter(std::abs(rounded), std::numeric_limits<float>::infinity()) - std::abs(rounded);
  return std::abs(static_cast<double>(found) - expected) / unit;
}

constexpr float kInfinity = std::numeric_limits<float>::infinity();
const float kNan = std::numeric_limits<float>::quiet_NaN();

}  // namespace

TEST_CASE("exp is within two units of the last place, denormal results included") {
  double worst = 0;
  for (double x = -103; x < 88.7; x += 0.000937) {
    const auto argument = static_cast<float>(x);
    worst = std::max(worst, units(exponential(argument), std::exp(static_cast<double>(argument))));
  }
  CHECK(worst < 2);
  CHECK(exponential(0.0f) == 1);
  CHECK(exponential(-0.0f) == 1);
}

TEST_CASE("exp overflows, underflows and keeps NaNs") {
  CHECK(exponential(88.72f) < kInfinity);
  CHECK(exponential(88.73f) == kInfinity);
  CHECK(exponential(kInfinity) == kInfinity);
  CHECK(exponential(-103.5f) > 0);
  CHECK(exponential(-104.5f) == 0);
  CHECK(exponential(-kInfinity) == 0);
  CHECK(std::isnan(exponential(kNan)));
  CHECK(std::isnan(exponential(-kNan)));
}

TEST_CASE("log is within two units of the last place, near 1 and of denormals, too") {
  double worst = 0;
  const auto check = [&](float argument) {
    worst = std::max(worst, units(logarithm(argument), std::log(static_cast<double>(argument))));
  };
  for (double x = 1e-45; x < 3e38; x *= 1.000731) check(static_cast<float>(x));
  for (float x = 0.9f; x < 1.1f; x += 1e-6f) {
    if (x != 1) check(x);
  }
  CHECK(worst < 2);
  CHECK(logarithm(1.0f) == 0);
}

TEST_CASE("log of what has none") {
  CHECK(logarithm(0.0f) == -kInfinity);
  CHECK(logarithm(-0.0f) == -kInfinity);
  CHECK(std::isnan(logarithm(-1.0f)));
  CHECK(std::isnan(logarithm(-1e-40f)));
  CHECK(std::isnan(logarithm(-kInfinity)));
  CHECK(logarithm(kInfinity) == kInfinity);
  CHECK(std::isnan(logarithm(kNan)));
}
