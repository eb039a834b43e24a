#include "kernels/rows.hpp"

#include "engine/launch.hpp"

namespace semivox::kernels {

namespace {

template <class T>
struct GatherRows {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* x;           // (N V, C)
  const int32_t* rows;  // (M)
  T* out;               // (M, C)
  int64_t channels;
  SEMIVOX_HD void operator()(int64_t i) const { out[i] = x[rows[i / channels] * channels + i % channels]; }
};

template <class T>
struct ScatterRows {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* x;           // (M, C)
  const int32_t* rows;  // (M)
  T* out;               // (N V, C)
  int64_t channels;
  SEMIVOX_HD void operator()(int64_t i) const { out[rows[i / channels] * channels + i % channels] = x[i]; }
};

}  // namespace

Tensor row_list(const std::vector<int32_t>& rows, Device device) {
  Tensor list = Tensor::empty({1, 1, 1, 1, static_cast<int64_t>(rows.size())}, DType::i32, device);
  copy_bytes(list.raw(), device, rows.data(), Device{}, rows.size() * sizeof(int32_t));
  return list;
}

Tensor gather_rows(const Tensor& x, const Tensor& rows) {
  const int64_t channels = x.shape().c;
  Tensor out = Tensor::empty({1, channels, 1, 1, rows.elements()}, x.dtype(), x.device());
  dispatch_float(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    map(x.device(), "gather_rows", out.elements(),
        GatherRows<T>{x.data<T>(), rows.data<int32_t>(), out.data<T>(), channels});
  });
  return out;
}

Tensor scatter_rows(const Tensor& x, const Tensor& rows, const Shape& shape) {
  SEMIVOX_CHECK(x.shape() == Shape({1, shape.c, 1, 1, rows.elements()}), x.shape().str(), " for ",
                rows.elements(), " rows of ", shape.str());
  Tensor out = Tensor::zeros(shape, x.dtype(), x.device());
  dispatch_float(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    map(x.device(), "scatter_rows", x.elements(),
        ScatterRows<T>{x.data<T>(), rows.data<int32_t>(), out.data<T>(), shape.c});
  });
  return out;
}

}  // namespace semivox::kernels
