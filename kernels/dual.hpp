// Forward-mode dual numbers: a value and its derivatives by W variables. A formula written for a scalar type
// S gives its value with S = double and its gradient with S = Dual: no derivative is ever written by hand.
#pragma once

#include "kernels/elementary.hpp"

namespace semivox {

template <class T, int W>
struct Dual {
  T v = T(0);
  T d[W] = {};

  Dual() = default;
  SEMIVOX_HD Dual(T value)
      : v(value) {}  // NOLINT: a constant in a formula is a dual number with zero derivatives

  /// The variable number `index`.
  SEMIVOX_HD static Dual variable(T value, int index) {
    Dual x(value);
    SEMIVOX_UNROLL
    for (int i = 0; i < W; ++i) x.d[i] = i == index ? T(1) : T(0);
    return x;
  }
};

// Chain rule for a function of one argument: value f(x), derivative f'(x).
template <class T, int W>
SEMIVOX_HD inline Dual<T, W> chain(const Dual<T, W>& x, T value, T derivative) {
  Dual<T, W> y(value);
  SEMIVOX_UNROLL
  for (int i = 0; i < W; ++i) y.d[i] = derivative * x.d[i];
  return y;
}

template <class T, int W>
SEMIVOX_HD inline Dual<T, W> operator+(const Dual<T, W>& a, const Dual<T, W>& b) {
  Dual<T, W> y(a.v + b.v);
  SEMIVOX_UNROLL
  for (int i = 0; i < W; ++i) y.d[i] = a.d[i] + b.d[i];
  return y;
}
template <class T, int W>
SEMIVOX_HD inline Dual<T, W> operator-(const Dual<T, W>& a, const Dual<T, W>& b) {
  Dual<T, W> y(a.v - b.v);
  SEMIVOX_UNROLL
  for (int i = 0; i < W; ++i) y.d[i] = a.d[i] - b.d[i];
  return y;
}
template <class T, int W>
SEMIVOX_HD inline Dual<T, W> operator*(const Dual<T, W>& a, const Dual<T, W>& b) {
  Dual<T, W> y(a.v * b.v);
  SEMIVOX_UNROLL
  for (int i = 0; i < W; ++i) y.d[i] = a.d[i] * b.v + a.v * b.d[i];
  return y;
}
template <class T, int W>
SEMIVOX_HD inline Dual<T, W> operator/(const Dual<T, W>& a, const Dual<T, W>& b) {
  const T inverse = T(1) / b.v;
  Dual<T, W> y(a.v * inverse);
  SEMIVOX_UNROLL
  for (int i = 0; i < W; ++i) y.d[i] = (a.d[i] - y.v * b.d[i]) * inverse;
  return y;
}
template <class T, int W>
SEMIVOX_HD inline Dual<T, W> operator-(const Dual<T, W>& a) {
  return chain(a, -a.v, T(-1));
}

// Mixed operations with constants, spelled out so that a float constant needs no cast in a formula.
template <class T, int W>
SEMIVOX_HD inline Dual<T, W> operator+(const Dual<T, W>& a, T b) {
  Dual<T, W> y = a;
  y.v += b;
  return y;
}
template <class T, int W>
SEMIVOX_HD inline Dual<T, W> operator+(T a, const Dual<T, W>& b) {
  return b + a;
}
template <class T, int W>
SEMIVOX_HD inline Dual<T, W> operator-(const Dual<T, W>& a, T b) {
  return a + (-b);
}
template <class T, int W>
SEMIVOX_HD inline Dual<T, W> operator-(T a, const Dual<T, W>& b) {
  return chain(b, a - b.v, T(-1));
}
template <class T, int W>
SEMIVOX_HD inline Dual<T, W> operator*(const Dual<T, W>& a, T b) {
  return chain(a, a.v * b, b);
}
template <class T, int W>
SEMIVOX_HD inline Dual<T, W> operator*(T a, const Dual<T, W>& b) {
  return b * a;
}
template <class T, int W>
SEMIVOX_HD inline Dual<T, W> operator/(const Dual<T, W>& a, T b) {
  return a * (T(1) / b);
}
template <class T, int W>
SEMIVOX_HD inline Dual<T, W>& operator+=(Dual<T, W>& a, const Dual<T, W>& b) {
  a = a + b;
  return a;
}

template <class T, int W>
SEMIVOX_HD inline Dual<T, W> exponential(const Dual<T, W>& x) {
  const T e = exponential(x.v);
  return chain(x, e, e);
}

template <class T, int W>
SEMIVOX_HD inline Dual<T, W> logarithm(const Dual<T, W>& x) {
  return chain(x, logarithm(x.v), T(1) / x.v);
}

template <class S>
SEMIVOX_HD inline S square(const S& x) {
  return x * x;
}

/// The plain value of a scalar or dual number; what it is compared by.
SEMIVOX_HD inline float value_of(float x) { return x; }
SEMIVOX_HD inline double value_of(double x) { return x; }
template <class T, int W>
SEMIVOX_HD inline T value_of(const Dual<T, W>& x) {
  return x.v;
}

/// p[c] = softmax(z)[c] for c < classes, and the log of the normaliser relative to z: log p[c] = z[c] -
/// returned value.
template <class S>
SEMIVOX_HD inline S softmax(const S* z, int classes, S* p) {
  auto highest = value_of(z[0]);
  for (int c = 1; c < classes; ++c) highest = value_of(z[c]) > highest ? value_of(z[c]) : highest;
  S total = S(0);
  SEMIVOX_UNROLL
  for (int c = 0; c < classes; ++c) {
    p[c] = exponential(z[c] - highest);
    total = total + p[c];
  }
  const S inverse = S(1) / total;
  SEMIVOX_UNROLL
  for (int c = 0; c < classes; ++c) p[c] = p[c] * inverse;
  return logarithm(total) + highest;
}

}  // namespace semivox
