#include "engine/arithmetic.hpp"

#include "engine/launch.hpp"

namespace semivox {

namespace {

template <class T>
struct AddInPlace {
  T* target;
  const T* source;
  SEMIVOX_HD void operator()(int64_t i) const {
    target[i] = static_cast<compute_t<T>>(target[i]) + static_cast<compute_t<T>>(source[i]);
  }
};

template <class T>
struct AddScaled {
  const T* a;
  const T* b;
  T* out;
  StepNumber factor;
  SEMIVOX_HD void operator()(int64_t i) const {
    const auto f = static_cast<compute_t<T>>(factor.get());
    out[i] = static_cast<compute_t<T>>(a[i]) + f * static_cast<compute_t<T>>(b[i]);
  }
};

template <class From, class To>
struct Cast {
  const From* from;
  To* to;
  SEMIVOX_HD void operator()(int64_t i) const {
    to[i] = static_cast<To>(static_cast<compute_t<To>>(from[i]));
  }
};

template <class T>
struct Fill {
  T* target;
  compute_t<T> value;
  SEMIVOX_HD void operator()(int64_t i) const { target[i] = value; }
};

void check_same(const Tensor& a, const Tensor& b) {
  SEMIVOX_CHECK(a.shape() == b.shape() && a.dtype() == b.dtype() && a.device() == b.device(), a.shape().str(),
                " ", name_of(a.dtype()), " and ", b.shape().str(), " ", name_of(b.dtype()));
}

}  // namespace

void add_in_place(Tensor& target, const Tensor& source) {
  check_same(target, source);
  dispatch_float(target.dtype(), [&](auto zero) {
    using T = decltype(zero);
    kernels::map(target.device(), "add_in_place", target.elements(),
                 AddInPlace<T>{target.data<T>(), source.data<T>()});
  });
}

Tensor add_scaled(const Tensor& a, const Tensor& b, StepNumber factor) {
  check_same(a, b);
  Tensor out = Tensor::empty(a.shape(), a.dtype(), a.device());
  dispatch_float(a.dtype(), [&](auto zero) {
    using T = decltype(zero);
    kernels::map(a.device(), "add_scaled", a.elements(),
                 AddScaled<T>{a.data<T>(), b.data<T>(), out.data<T>(), factor});
  });
  return out;
}

Tensor cast(const Tensor& source, DType dtype) {
  if (source.dtype() == dtype) return source;
  Tensor out = Tensor::empty(source.shape(), dtype, source.device());
  dispatch_float(source.dtype(), [&](auto from_zero) {
    using From = decltype(from_zero);
    dispatch_float(dtype, [&](auto to_zero) {
      using To = decltype(to_zero);
      kernels::map(source.device(), "cast", source.elements(),
                   Cast<From, To>{source.data<From>(), out.data<To>()});
    });
  });
  return out;
}

void fill(Tensor& target, double value) {
  dispatch_float(target.dtype(), [&](auto zero) {
    using T = decltype(zero);
    kernels::map(target.device(), "fill", target.elements(),
                 Fill<T>{target.data<T>(), static_cast<compute_t<T>>(value)});
  });
}

}  // namespace semivox
