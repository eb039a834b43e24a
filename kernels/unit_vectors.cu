#include "kernels/unit_vectors.hpp"

#include <cmath>

#include "kernels/channels.hpp"

namespace semivox::kernels {

namespace {

SEMIVOX_HD inline double length(double square) {
  const double root = sqrt(square);
  return root < kShortestVector ? kShortestVector : root;
}

/// Adds a * b over the channels of a row.
template <class A, class B>
struct Products {
  static constexpr bool kHostOnly = std::is_same_v<A, double>;
  const A* a;  // (rows, C)
  const B* b;  // (rows, C)
  int64_t channels;
  SEMIVOX_HD void operator()(int64_t row, int64_t c, double* sums) const {
    const int64_t i = row * channels + c;
    sums[0] += static_cast<double>(static_cast<compute_t<A>>(a[i])) *
               static_cast<double>(static_cast<compute_t<B>>(b[i]));
  }
};

template <class T>
struct Divide {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  using P = compute_t<T>;
  const T* x;             // (rows, C)
  const double* squares;  // (rows)
  P* y;                   // (rows, C)
  int64_t channels;
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t c) const {
    const int64_t i = row * channels + c;
    y[i] = static_cast<P>(x[i]) * static_cast<P>(1.0 / length(squares[row]));
  }
};

/// dx = (dy - y (y . dy)) / |x|; a short vector is divided by a constant.
template <class T>
struct DivideBackward {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  using P = compute_t<T>;
  const P* y;              // (rows, C)
  const P* dy;             // (rows, C)
  const double* squares;   // (rows)
  const double* products;  // (rows): y . dy
  T* dx;                   // (rows, C)
  int64_t channels;
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t c) const {
    const int64_t i = row * channels + c;
    const bool is_short = sqrt(squares[row]) < kShortestVector;
    const P along = is_short ? P(0) : static_cast<P>(products[row]);
    dx[i] = static_cast<T>((dy[i] - y[i] * along) * static_cast<P>(1.0 / length(squares[row])));
  }
};

}  // namespace

Tensor unit_vectors(const Tensor& x, Tensor& squares) {
  const Shape shape = x.shape();
  squares = Tensor::empty(shape.with_channels(1), DType::f64, x.device());
  Tensor y = Tensor::empty(shape, x.dtype() == DType::f64 ? DType::f64 : DType::f32, x.device());
  dispatch_float(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    sum_samples<1>(x.device(), "unit_vectors.squares", shape.rows(), shape.c,
                   Products<T, T>{x.data<T>(), x.data<T>(), shape.c}, squares.data<double>());
    map_channels(x.device(), "unit_vectors", 1, shape.rows(), shape.c,
                 Divide<T>{x.data<T>(), squares.data<double>(), y.data<compute_t<T>>(), shape.c});
  });
  return y;
}

Tensor unit_vectors_backward(const Tensor& y, const Tensor& squares, const Tensor& dy, DType dtype) {
  const Shape shape = y.shape();
  SEMIVOX_CHECK(dy.shape() == shape && squares.shape() == shape.with_channels(1), dy.shape().str(), " and ",
                squares.shape().str(), " for ", shape.str());
  const Tensor products = Tensor::empty(shape.with_channels(1), DType::f64, y.device(), MemoryTag::workspace);
  Tensor dx = Tensor::empty(shape, dtype, y.device());
  dispatch_float(dtype, [&](auto zero) {
    using T = decltype(zero);
    using P = compute_t<T>;
    sum_samples<1>(y.device(), "unit_vectors.products", shape.rows(), shape.c,
                   Products<P, P>{y.data<P>(), dy.data<P>(), shape.c}, products.data<double>());
    map_channels(y.device(), "unit_vectors.backward", 1, shape.rows(), shape.c,
                 DivideBackward<T>{y.data<P>(), dy.data<P>(), squares.data<double>(), products.data<double>(),
                                   dx.data<T>(), shape.c});
  });
  return dx;
}

}  // namespace semivox::kernels
