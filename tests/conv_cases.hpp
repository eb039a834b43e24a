// Convolutions of many shapes, and what they are held against: plain loops in f64.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "engine/parallel.hpp"
#include "kernels/conv.hpp"

namespace semivox::kernels {

struct Case {
  ConvGeometry g;
  Shape input;
};

inline ConvGeometry geometry(int64_t in, int64_t out, std::array<int64_t, 3> kernel,
                             std::array<int64_t, 3> stride, std::array<int64_t, 3> padding,
                             bool transposed = false) {
  return {in, out, kernel, stride, padding, transposed};
}

inline ConvGeometry same3(int64_t in, int64_t out) {
  return geometry(in, out, {3, 3, 3}, {1, 1, 1}, {1, 1, 1});
}
inline ConvGeometry down2(int64_t in, int64_t out) {
  return geometry(in, out, {2, 2, 2}, {2, 2, 2}, {0, 0, 0});
}
inline ConvGeometry up2(int64_t in, int64_t out) {
  return geometry(in, out, {2, 2, 2}, {2, 2, 2}, {0, 0, 0}, true);
}
inline ConvGeometry point(int64_t in, int64_t out) {
  return geometry(in, out, {1, 1, 1}, {1, 1, 1}, {0, 0, 0});
}
inline ConvGeometry slice3(int64_t in, int64_t out) {
  return geometry(in, out, {1, 3, 3}, {1, 1, 1}, {0, 1, 1});
}

inline std::string describe(const Case& c) {
  const ConvGeometry& g = c.g;
  return text(g.transposed ? "transposed " : "", c.input.str(), " -> ", g.out_channels, ", kernel ",
              g.kernel[0], g.kernel[1], g.kernel[2], " stride ", g.stride[0], g.stride[1], g.stride[2],
              " padding ", g.padding[0], g.padding[1], g.padding[2]);
}

/// Odd sizes, size 1, non-cubic, strides, overlapping and non-overlapping transposed layers, slices, 5x5x5.
inline std::vector<Case> small_cases() {
  return {
      {same3(2, 3), {2, 2, 3, 5, 4}},
      {same3(1, 4), {1, 1, 1, 1, 1}},
      {same3(5, 7), {1, 5, 4, 1, 3}},
      {point(3, 2), {2, 3, 2, 3, 4}},
      {slice3(2, 3), {2, 2, 1, 6, 5}},
      {down2(2, 3), {1, 2, 4, 6, 2}},
      {down2(2, 3), {2, 2, 5, 7, 3}},
      {geometry(2, 3, {3, 3, 3}, {2, 2, 2}, {1, 1, 1}), {1, 2, 5, 6, 7}},
      {geometry(1, 2, {5, 5, 5}, {1, 1, 1}, {2, 2, 2}), {1, 1, 4, 6, 3}},
      {geometry(2, 2, {1, 2, 2}, {1, 2, 2}, {0, 0, 0}), {2, 2, 1, 6, 4}},
      {geometry(2, 2, {3, 1, 2}, {1, 2, 1}, {2, 0, 0}), {1, 2, 2, 5, 4}},
      {up2(3, 2), {1, 3, 2, 3, 1}},
      {geometry(2, 3, {3, 3, 3}, {2, 2, 2}, {1, 1, 1}, true), {1, 2, 3, 2, 4}},
      {geometry(2, 2, {4, 4, 4}, {2, 2, 2}, {1, 1, 1}, true), {2, 2, 2, 3, 2}},
      {geometry(2, 2, {1, 2, 2}, {1, 2, 2}, {0, 0, 0}, true), {2, 2, 1, 3, 4}},
  };
}

/// The layer types of V-Nets with 1, 2, 4, 8, 16 and 32 channels, and of slice-wise networks.
inline std::vector<Case> network_cases() {
  std::vector<Case> cases = small_cases();
  const Shape volume{2, 1, 6, 9, 12};
  for (const auto& [in, out] : std::vector<std::pair<int64_t, int64_t>>{{1, 4},
                                                                        {1, 8},
                                                                        {1, 16},
                                                                        {2, 16},
                                                                        {4, 4},
                                                                        {8, 8},
                                                                        {3, 8},
                                                                        {2, 24},
                                                                        {16, 16},
                                                                        {32, 32},
                                                                        {16, 32},
                                                                        {32, 16},
                                                                        {64, 64},
                                                                        {128, 16},
                                                                        {16, 128},
                                                                        {4, 32}}) {
    cases.push_back({same3(in, out), volume.with_channels(in)});
  }
  for (const int64_t c : {4, 8, 16}) {
    cases.push_back({point(c, 2), volume.with_channels(c)});
    cases.push_back({down2(c, 2 * c), {2, c, 6, 8, 12}});
    cases.push_back({up2(2 * c, c), volume.with_channels(2 * c)});
  }
  cases.push_back(
      {down2(32, 64), {1, 32, 16, 34, 26}});  // more than one block of patches, the last one shorter
  cases.push_back({up2(64, 32), {1, 64, 8, 17, 13}});
  cases.push_back({same3(80, 48), {2, 80, 3, 5, 4}});     // several blocks of channels, an odd number of them
  cases.push_back({same3(16, 40), {1, 16, 30, 40, 36}});  // more than one slab
  cases.push_back({same3(64, 32), {2, 64, 41, 3, 17}});   // more than one unit of planes
  cases.push_back({slice3(16, 16), {3, 16, 1, 20, 13}});
  cases.push_back({slice3(32, 48), {2, 32, 1, 33, 18}});
  cases.push_back({slice3(16, 16), {1, 16, 5, 6, 7}});
  cases.push_back({slice3(16, 16), {2, 16, 1, 7, 19}});
  cases.push_back({same3(16, 16), {2, 16, 3, 5, 32}});
  cases.push_back({same3(16, 16), {1, 16, 1, 1, 16}});
  cases.push_back({same3(16, 16), {1, 16, 4, 3, 37}});
  cases.push_back({slice3(1, 16), {3, 1, 1, 20, 13}});
  cases.push_back({slice3(1, 8), {3, 1, 1, 20, 13}});
  cases.push_back({point(16, 16), volume.with_channels(16)});
  cases.push_back({same3(256, 256), {3, 256, 2, 3, 2}});
  cases.push_back({same3(32, 32), {1, 32, 1, 1, 1}});
  cases.push_back({geometry(32, 16, {1, 2, 2}, {1, 2, 2}, {0, 0, 0}, true), {3, 32, 1, 5, 7}});
  return cases;
}

inline Tensor random_tensor(Shape shape, uint32_t seed) {
  Tensor t = Tensor::empty(shape, DType::f64, {});
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < t.elements(); ++i) t.data<double>()[i] = normal(generator);
  return t;
}

inline Tensor random_vector(int64_t count, uint32_t seed) { return random_tensor({1, count, 1, 1, 1}, seed); }

inline Tensor converted(const Tensor& from, DType dtype) {
  Tensor t = Tensor::empty(from.shape(), dtype, {});
  const std::vector<double> values = from.to_doubles();
  dispatch_float(dtype, [&](auto zero) {
    using T = decltype(zero);
    for (size_t i = 0; i < values.size(); ++i)
      t.data<T>()[i] = static_cast<T>(static_cast<compute_t<T>>(values[i]));
  });
  return t;
}

inline ConvWeights layer_weights(const Tensor& values) {
  return {values, std::make_shared<uint64_t>(1), nullptr};
}

/// y of the definition: convolution gathers, transposed convolution spreads every input voxel over its taps.
inline std::vector<double> oracle_forward(const ConvGeometry& g, const Tensor& x, const Tensor& w,
                                          const Tensor& b) {
  const Shape is = x.shape(), os = g.output_shape(is);
  const auto at = [](const Shape& s, int64_t n, int64_t c, int64_t d, int64_t h, int64_t v) {
    return static_cast<size_t>((((n * s.d + d) * s.h + h) * s.w + v) * s.c + c);
  };
  const std::vector<double> xv = x.to_doubles(), wv = w.to_doubles(), bv = b.to_doubles();
  std::vector<double> y(static_cast<size_t>(os.elements()));
  for (size_t i = 0; i < y.size(); ++i) y[i] = bv[i % bv.size()];
  const Shape& coarse = g.transposed ? is : os;
  const Shape& fine = g.transposed ? os : is;
  for (int64_t n = 0; n < is.n; ++n)
    for (int64_t d = 0; d < coarse.d; ++d)
      for (int64_t h = 0; h < coarse.h; ++h)
        for (int64_t v = 0; v < coarse.w; ++v)
          for (int64_t kd = 0; kd < g.kernel[0]; ++kd)
            for (int64_t kh = 0; kh < g.kernel[1]; ++kh)
              for (int64_t kw = 0; kw < g.kernel[2]; ++kw) {
                const int64_t fd = d * g.stride[0] - g.padding[0] + kd,
                              fh = h * g.stride[1] - g.padding[1] + kh,
                              fv = v * g.stride[2] - g.padding[2] + kw;
                if (fd < 0 || fd >= fine.d || fh < 0 || fh >= fine.h || fv < 0 || fv >= fine.w) continue;
                for (int64_t i = 0; i < g.in_channels; ++i)
                  for (int64_t o = 0; o < g.out_channels; ++o) {
                    const int64_t first = g.transposed ? i : o, second = g.transposed ? o : i;
                    const int64_t seconds = g.transposed ? g.out_channels : g.in_channels;
                    const double weight = wv[static_cast<size_t>(
                        (((first * seconds + second) * g.kernel[0] + kd) * g.kernel[1] + kh) * g.kernel[2] +
                        kw)];
                    if (g.transposed) {
                      y[at(os, n, o, fd, fh, fv)] += weight * xv[at(is, n, i, d, h, v)];
                    } else {
                      y[at(os, n, o, d, h, v)] += weight * xv[at(is, n, i, fd, fh, fv)];
                    }
                  }
              }
  return y;
}

inline double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// Largest difference relative to the largest expected value.
inline double relative_error(const std::vector<double>& found, const std::vector<double>& expected) {
  REQUIRE(found.size() == expected.size());
  double difference = 0, scale = 1e-30;
  for (size_t i = 0; i < found.size(); ++i) {
    if (!std::isfinite(found[i])) return INFINITY;
    difference = std::max(difference, std::abs(found[i] - expected[i]));
    scale = std::max(scale, std::abs(expected[i]));
  }
  return difference / scale;
}

struct Results {
  Tensor y, dx, dw;
};

/// The forward and backward functions of all layers, or of one variant.
struct Functions {
  decltype(&conv_forward) forward = conv_forward;
  decltype(&conv_backward_data) backward_data = conv_backward_data;
  decltype(&conv_backward_weights) backward_weights = conv_backward_weights;
};

/// All three functions on the device, with operands rounded to `dtype`; y and dy in `out_dtype`. dw starts at
/// one.
inline Results run_all(const Case& c, DType dtype, DType out_dtype, Device device, bool with_bias,
                       const Tensor& x, const Tensor& w, const Tensor& b, const Tensor& dy,
                       const Functions& functions = {}) {
  const DType parameters = dtype == DType::f64 ? DType::f64 : DType::f32;
  const ConvWeights weights = layer_weights(converted(w, parameters).to(device));
  const Tensor xd = converted(x, dtype).to(device), dyd = converted(dy, out_dtype).to(device);
  Results r;
  r.y = Tensor::empty(c.g.output_shape(c.input), out_dtype, device);
  r.dx = Tensor::empty(c.input, dtype, device);
  Tensor ones = Tensor::zeros({1, c.g.weight_count(), 1, 1, 1}, DType::f64, {});
  for (int64_t i = 0; i < ones.elements(); ++i) ones.data<double>()[i] = 1;
  r.dw = converted(ones, parameters).to(device);
  functions.forward(c.g, xd, weights, with_bias ? converted(b, parameters).to(device) : Tensor(), r.y);
  functions.backward_data(c.g, dyd, weights, r.dx);
  functions.backward_weights(c.g, xd, dyd, r.dw);
  return r;
}

/// Compares a device and dtype with the plain loops in f64 on the same (rounded) operands.
inline void check_against_reference(const Case& c, DType dtype, DType out_dtype, Device device,
                                    double tolerance, const Functions& functions = {}) {
  INFO(text(describe(c), " ", name_of(dtype), " to ", name_of(out_dtype), " on ", device.name()));
  const Tensor x = converted(converted(random_tensor(c.input, 1), dtype), DType::f64);
  const Tensor w = converted(converted(random_vector(c.g.weight_count(), 2), dtype), DType::f64);
  const Tensor b = converted(converted(random_vector(c.g.out_channels, 3), DType::f32), DType::f64);
  const Tensor dy = converted(converted(random_tensor(c.g.output_shape(c.input), 4), dtype), DType::f64);
  for (const bool with_bias : {true, false}) {
    if (!with_bias && c.input.elements() > 1000) continue;  // without bias on the small cases only: time
    const Results expected = run_all(c, DType::f64, DType::f64, {}, with_bias, x, w, b, dy);
    const Results found = run_all(c, dtype, out_dtype, device, with_bias, x, w, b, dy, functions);
    CHECK(relative_error(found.y.to_doubles(), expected.y.to_doubles()) < tolerance);
    CHECK(relative_error(found.dx.to_doubles(), expected.dx.to_doubles()) < tolerance);
    CHECK(relative_error(found.dw.to_doubles(), expected.dw.to_doubles()) < tolerance);
  }
}

}  // namespace semivox::kernels
