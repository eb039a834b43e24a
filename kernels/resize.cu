#include "kernels/resize.hpp"

#include <algorithm>
#include <cmath>
#include <compare>
#include <map>
#include <tuple>
#include <vector>

#include "kernels/channels.hpp"

namespace semivox::kernels {

namespace {

/// A banded matrix: row o has non-zero entries only in columns first[o] ... first[o] + taps - 1.
struct Band {
  int64_t taps = 0;
  std::vector<int32_t> first;   // (rows)
  std::vector<double> weights;  // (rows, taps)
};

/// The numbers of taps that the kernel below is compiled for.
int64_t padded_taps(int64_t taps) {
  for (const int64_t compiled : {1, 2, 4, 8, 32})
    if (taps <= compiled) return compiled;
  throw InternalError(text("resize: ", taps, " voxels meet in one"));
}

Band interpolation_band(int64_t in, int64_t out, Interpolation interpolation) {
  Band band;
  band.taps = interpolation == Interpolation::nearest ? 1 : 2;
  band.first.resize(static_cast<size_t>(out));
  band.weights.assign(static_cast<size_t>(out * band.taps), 0.0);
  for (int64_t o = 0; o < out; ++o) {
    double* weights = band.weights.data() + o * band.taps;
    if (interpolation == Interpolation::nearest) {
      band.first[o] = static_cast<int32_t>(o * in / out);
      weights[0] = 1;
      continue;
    }
    const auto i = static_cast<double>(o), n_in = static_cast<double>(in), n_out = static_cast<double>(out);
    const double source = interpolation == Interpolation::linear
                              ? std::max((i + 0.5) * n_in / n_out - 0.5, 0.0)
                          : out > 1 ? i * (n_in - 1) / (n_out - 1)
                                    : 0.0;
    const int64_t lower = std::min(static_cast<int64_t>(source), in - 1);
    const double fraction = lower + 1 < in ? source - static_cast<double>(lower) : 0.0;
    band.first[o] = static_cast<int32_t>(lower);
    weights[0] = 1 - fraction;
    weights[1] = fraction;
  }
  return band;
}

/// The transposed matrix, with `columns` rows. The non-zero rows of a column follow each other because
/// `first` never falls.
Band transposed(const Band& band, int64_t columns) {
  const auto rows = static_cast<int64_t>(band.first.size());
  std::vector<int64_t> begin(static_cast<size_t>(columns), rows), end(static_cast<size_t>(columns), 0);
  const auto for_entries = [&](const auto& f) {
    for (int64_t o = 0; o < rows; ++o) {
      for (int64_t t = 0; t < band.taps; ++t) {
        const double weight = band.weights[o * band.taps + t];
        if (weight != 0) f(o, band.first[o] + t, weight);
      }
    }
  };
  for_entries([&](int64_t o, int64_t column, double) {
    begin[column] = std::min(begin[column], o);
    end[column] = std::max(end[column], o + 1);
  });
  Band result;
  for (int64_t column = 0; column < columns; ++column)
    result.taps = std::max(result.taps, end[column] - begin[column]);
  result.first.resize(static_cast<size_t>(columns));
  result.weights.assign(static_cast<size_t>(columns * result.taps), 0.0);
  for (int64_t column = 0; column < columns; ++column)  // a column without entries reads row 0, weighted 0
    result.first[column] = static_cast<int32_t>(end[column] > 0 ? begin[column] : 0);
  for_entries([&](int64_t o, int64_t column, double weight) {
    result.weights[column * result.taps + o - begin[column]] = weight;
  });
  return result;
}

template <class T, int kTaps>
struct AxisSum {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  using P = compute_t<T>;
  const T* x;             // (outer, in_length, inner, channels)
  T* out;                 // (outer, out_length, inner, channels)
  const int32_t* first;   // (out_length)
  const double* weights;  // (out_length, kTaps)
  int64_t in_length, out_length, inner, channels;
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t c) const {
    const int64_t line = row / inner, voxel = row - line * inner;
    const int64_t outer = line / out_length, o = line - outer * out_length;
    const T* source = x + (outer * in_length * inner + voxel) * channels + c;
    P sum = 0;
    for (int t = 0; t < kTaps; ++t) {
      const int64_t i = first[o] + t < in_length ? first[o] + t : in_length - 1;  // beyond: weight 0
      sum += static_cast<P>(weights[o * kTaps + t]) * static_cast<P>(source[i * inner * channels]);
    }
    out[row * channels + c] = sum;
  }
};

/// What a resizing of one axis does.
struct AxisResize {
  int64_t in, out;
  Interpolation interpolation;
  bool backward;  // the gradient: from `out` voxels to `in`
  auto operator<=>(const AxisResize&) const = default;
};

/// A band on a device, its taps padded with weights of 0.
struct DeviceBand {
  int64_t taps = 0;
  Tensor first;    // i32 (rows)
  Tensor weights;  // f64 (rows, taps)
};

template <class T>
Tensor upload(const std::vector<T>& values, Device device) {
  Tensor tensor = Tensor::empty({1, static_cast<int64_t>(values.size()), 1, 1, 1}, dtype_of<T>(), device,
                                MemoryTag::workspace);
  copy_bytes(tensor.raw(), device, values.data(), Device{}, values.size() * sizeof(T));
  return tensor;
}

/// The band of a resizing, made at its first use and kept: a network asks for the same few in every step, and
/// a GPU would have to wait for each of them.
const DeviceBand& band_on(Device device, const AxisResize& resize) {
  // Never destroyed: at the end of the program the GPU may be gone before it.
  static auto& bands = *new std::map<std::tuple<DeviceKind, int, AxisResize>, DeviceBand>;
  DeviceBand& made = bands[{device.kind, device.index, resize}];
  if (made.taps > 0) return made;
  Band band = interpolation_band(resize.in, resize.out, resize.interpolation);
  if (resize.backward) band = transposed(band, resize.in);
  const int64_t taps = padded_taps(band.taps);
  const auto rows = static_cast<int64_t>(band.first.size());
  std::vector<double> padded(static_cast<size_t>(rows * taps), 0.0);
  for (int64_t o = 0; o < rows; ++o)
    std::copy_n(band.weights.begin() + o * band.taps, band.taps, padded.begin() + o * taps);
  made = {taps, upload(band.first, device), upload(padded, device)};
  return made;
}

/// out = band * x along `axis` (0 = D).
Tensor multiply_axis(const Tensor& x, int axis, const DeviceBand& band) {
  const Shape in = x.shape();
  const int64_t rows = band.first.elements();
  Shape shape = in;
  (axis == 0 ? shape.d : axis == 1 ? shape.h : shape.w) = rows;
  const int64_t in_length = axis == 0 ? in.d : axis == 1 ? in.h : in.w;
  const int64_t inner = axis == 0 ? in.h * in.w : axis == 1 ? in.w : 1;
  Tensor out = Tensor::empty(shape, x.dtype(), x.device());
  dispatch_float(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const auto run = [&](auto count) {
      map_channels(x.device(), "resize", 1, shape.rows(), shape.c,
                   AxisSum<T, count.value>{x.data<T>(), out.data<T>(), band.first.data<int32_t>(),
                                           band.weights.data<double>(), in_length, rows, inner, shape.c});
    };
    switch (band.taps) {
      case 1:
        return run(std::integral_constant<int, 1>{});
      case 2:
        return run(std::integral_constant<int, 2>{});
      case 4:
        return run(std::integral_constant<int, 4>{});
      case 8:
        return run(std::integral_constant<int, 8>{});
      default:
        return run(std::integral_constant<int, 32>{});
    }
  });
  return out;
}

std::array<int64_t, 3> size_of_axes(const Tensor& x) { return {x.shape().d, x.shape().h, x.shape().w}; }

}  // namespace

Tensor resize(const Tensor& x, const std::array<int64_t, 3>& size, Interpolation interpolation) {
  const std::array<int64_t, 3> from = size_of_axes(x);
  Tensor result = x;
  for (int axis = 0; axis < 3; ++axis) {
    SEMIVOX_CHECK(size[axis] > 0, "resize of ", x.shape().str(), ": size ", size[axis]);
    if (size[axis] == from[axis]) continue;
    result = multiply_axis(result, axis, band_on(x.device(), {from[axis], size[axis], interpolation, false}));
  }
  return result;
}

Tensor resize_backward(const Tensor& dy, const std::array<int64_t, 3>& input_size,
                       Interpolation interpolation) {
  const std::array<int64_t, 3> size = size_of_axes(dy);
  Tensor result = dy;
  for (int axis = 2; axis >= 0; --axis) {
    if (size[axis] == input_size[axis]) continue;
    result = multiply_axis(result, axis,
                           band_on(dy.device(), {input_size[axis], size[axis], interpolation, true}));
  }
  return result;
}

}  // namespace semivox::kernels
