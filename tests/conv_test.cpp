// Convolutions: the plain loops against an oracle written from the definition and against central
// differences; the library variants against the plain loops in f64.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "engine/parallel.hpp"
#include "kernels/conv.hpp"
#include "kernels/conv_amx.hpp"
#include "kernels/conv_direct.hpp"
#include "kernels/conv_pointwise.hpp"
#include "kernels/conv_thin.hpp"
#include "kernels/conv_winograd.hpp"
#include "kernels/norm.hpp"

using namespace semivox;
using namespace semivox::kernels;

namespace {

struct Case {
  ConvGeometry g;
  Shape input;
};

ConvGeometry geometry(int64_t in, int64_t out, std::array<int64_t, 3> kernel, std::array<int64_t, 3> stride,
                      std::array<int64_t, 3> padding, bool transposed = false) {
  return {in, out, kernel, stride, padding, transposed};
}

ConvGeometry same3(int64_t in, int64_t out) { return geometry(in, out, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}); }
ConvGeometry down2(int64_t in, int64_t out) { return geometry(in, out, {2, 2, 2}, {2, 2, 2}, {0, 0, 0}); }
ConvGeometry up2(int64_t in, int64_t out) { return geometry(in, out, {2, 2, 2}, {2, 2, 2}, {0, 0, 0}, true); }
ConvGeometry point(int64_t in, int64_t out) { return geometry(in, out, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}); }
ConvGeometry slice3(int64_t in, int64_t out) { return geometry(in, out, {1, 3, 3}, {1, 1, 1}, {0, 1, 1}); }

std::string describe(const Case& c) {
  const ConvGeometry& g = c.g;
  return text(g.transposed ? "transposed " : "", c.input.str(), " -> ", g.out_channels, ", kernel ",
              g.kernel[0], g.kernel[1], g.kernel[2], " stride ", g.stride[0], g.stride[1], g.stride[2],
              " padding ", g.padding[0], g.padding[1], g.padding[2]);
}

/// Odd sizes, size 1, non-cubic, strides, overlapping and non-overlapping transposed layers, slices, 5x5x5.
std::vector<Case> small_cases() {
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
std::vector<Case> network_cases() {
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
  cases.push_back({slice3(1, 16), {3, 1, 1, 20, 13}});
  cases.push_back({slice3(1, 8), {3, 1, 1, 20, 13}});
  cases.push_back({point(16, 16), volume.with_channels(16)});
  cases.push_back({same3(256, 256), {3, 256, 2, 3, 2}});
  cases.push_back({same3(32, 32), {1, 32, 1, 1, 1}});
  cases.push_back({geometry(32, 16, {1, 2, 2}, {1, 2, 2}, {0, 0, 0}, true), {3, 32, 1, 5, 7}});
  return cases;
}

Tensor random_tensor(Shape shape, uint32_t seed) {
  Tensor t = Tensor::empty(shape, DType::f64, {});
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < t.elements(); ++i) t.data<double>()[i] = normal(generator);
  return t;
}

Tensor random_vector(int64_t count, uint32_t seed) { return random_tensor({1, count, 1, 1, 1}, seed); }

Tensor converted(const Tensor& from, DType dtype) {
  Tensor t = Tensor::empty(from.shape(), dtype, {});
  const std::vector<double> values = from.to_doubles();
  dispatch_float(dtype, [&](auto zero) {
    using T = decltype(zero);
    for (size_t i = 0; i < values.size(); ++i)
      t.data<T>()[i] = static_cast<T>(static_cast<compute_t<T>>(values[i]));
  });
  return t;
}

ConvWeights layer_weights(const Tensor& values) { return {values, std::make_shared<uint64_t>(1), nullptr}; }

/// y of the definition: convolution gathers, transposed convolution spreads every input voxel over its taps.
std::vector<double> oracle_forward(const ConvGeometry& g, const Tensor& x, const Tensor& w, const Tensor& b) {
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

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// Largest difference relative to the largest expected value.
double relative_error(const std::vector<double>& found, const std::vector<double>& expected) {
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
Results run_all(const Case& c, DType dtype, DType out_dtype, Device device, bool with_bias, const Tensor& x,
                const Tensor& w, const Tensor& b, const Tensor& dy, const Functions& functions = {}) {
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
void check_against_reference(const Case& c, DType dtype, DType out_dtype, Device device, double tolerance,
                             const Functions& functions = {}) {
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

}  // namespace

TEST_CASE("convolution output shapes") {
  CHECK(same3(4, 8).output_shape({2, 4, 5, 6, 7}) == Shape{2, 8, 5, 6, 7});
  CHECK(down2(4, 8).output_shape({2, 4, 5, 6, 7}) == Shape{2, 8, 2, 3, 3});
  CHECK(up2(8, 4).output_shape({2, 8, 2, 3, 3}) == Shape{2, 4, 4, 6, 6});
  CHECK(slice3(1, 2).output_shape({1, 1, 1, 8, 9}) == Shape{1, 2, 1, 8, 9});
  CHECK_THROWS_AS(same3(4, 8).output_shape({2, 3, 5, 6, 7}), InternalError);
  CHECK_THROWS_AS(down2(4, 8).output_shape({2, 4, 1, 6, 7}), InternalError);
}

TEST_CASE("convolution refuses wrong operands") {
  const ConvGeometry g = same3(2, 3);
  const Tensor x = Tensor::zeros({1, 2, 3, 3, 3}, DType::f32, {});
  Tensor y = Tensor::zeros({1, 3, 3, 3, 3}, DType::f32, {}),
         small = Tensor::zeros({1, 3, 3, 3, 2}, DType::f32, {});
  Tensor labels = Tensor::zeros({1, 3, 3, 3, 3}, DType::i32, {});
  const ConvWeights good = layer_weights(Tensor::zeros({1, g.weight_count(), 1, 1, 1}, DType::f32, {}));
  const ConvWeights few = layer_weights(Tensor::zeros({1, g.weight_count() - 1, 1, 1, 1}, DType::f32, {}));
  CHECK_NOTHROW(conv_forward(g, x, good, {}, y));
  CHECK_THROWS_AS(conv_forward(g, x, good, {}, small), InternalError);
  CHECK_THROWS_AS(conv_forward(g, x, good, {}, labels), InternalError);
  CHECK_THROWS_AS(conv_forward(g, x, few, {}, y), InternalError);
  CHECK_THROWS_AS(conv_forward(g, x, good, Tensor::zeros({1, 2, 1, 1, 1}, DType::f32, {}), y), InternalError);
}

TEST_CASE("reference convolution equals the definition") {
  for (const Case& c : small_cases()) {
    INFO(describe(c));
    const Tensor x = random_tensor(c.input, 1), w = random_vector(c.g.weight_count(), 2);
    const Tensor b = random_vector(c.g.out_channels, 3);
    const std::vector<double> expected = oracle_forward(c.g, x, w, b);
    Tensor y = Tensor::empty(c.g.output_shape(c.input), DType::f64, {});
    reference::conv_forward(c.g, x, layer_weights(w), b, y);
    CHECK(relative_error(y.to_doubles(), expected) < 1e-14);

    Tensor y32 = Tensor::empty(c.g.output_shape(c.input), DType::f32, {});
    reference::conv_forward(c.g, converted(x, DType::f32), layer_weights(converted(w, DType::f32)),
                            converted(b, DType::f32), y32);
    CHECK(relative_error(y32.to_doubles(), expected) < 2e-6);
  }
}

TEST_CASE("reference convolution gradients equal central differences") {
  constexpr double kStep = 1e-3;  // the function is linear in x and in w: the step adds no truncation error
  for (const Case& c : small_cases()) {
    INFO(describe(c));
    const Tensor x = random_tensor(c.input, 1), w = random_vector(c.g.weight_count(), 2);
    const Tensor b = random_vector(c.g.out_channels, 3), dy = random_tensor(c.g.output_shape(c.input), 4);
    const std::vector<double> weights_of_loss = dy.to_doubles();
    Tensor dx = Tensor::empty(c.input, DType::f64, {});
    Tensor dw = Tensor::zeros(w.shape(), DType::f64, {});
    conv_backward_data(c.g, dy, layer_weights(w), dx);
    conv_backward_weights(c.g, x, dy, dw);
    for (const auto& [variable, gradient] : {std::pair{x, dx}, std::pair{w, dw}}) {
      double* values = variable.data<double>();
      const int64_t step = std::max<int64_t>(1, variable.elements() / 40);
      for (int64_t i = 0; i < variable.elements(); i += step) {
        const double kept = values[i];
        values[i] = kept + kStep;
        const double above = dot(oracle_forward(c.g, x, w, b), weights_of_loss);
        values[i] = kept - kStep;
        const double below = dot(oracle_forward(c.g, x, w, b), weights_of_loss);
        values[i] = kept;
        CHECK(gradient.data<double>()[i] == doctest::Approx((above - below) / (2 * kStep)).epsilon(1e-8));
      }
    }
  }
}

TEST_CASE("f32 convolution on the CPU equals the reference") {
  for (const Case& c : network_cases()) check_against_reference(c, DType::f32, DType::f32, {}, 4e-6);
}

TEST_CASE("bf16 convolution on the CPU equals the reference") {
  for (const Case& c : network_cases()) check_against_reference(c, DType::bf16, DType::bf16, {}, 5e-3);
}

TEST_CASE("layers that have a kernel of our own: the library equals the reference as well") {
  const Functions library{onednn::conv_forward, onednn::conv_backward_data, onednn::conv_backward_weights};
  int layers = 0;
  for (const Case& c : network_cases()) {
    const Tensor x = Tensor::zeros(c.input, DType::f32, {});
    const Tensor y = Tensor::zeros(c.g.output_shape(c.input), DType::f32, {});
    if (!thin::takes(c.g, x, y) && !winograd::takes(c.g, x, y)) continue;
    check_against_reference(c, DType::f32, DType::f32, {}, 6e-6, library);
    ++layers;
  }
  if (layers == 0) MESSAGE("skipped: this processor has no 512-bit vectors");
}

TEST_CASE("convolution, activation and skip in one call equal the three one after the other") {
  for (const Case& c : network_cases()) {
    const Shape out = c.g.output_shape(c.input);
    const Tensor x = random_tensor(c.input, 1), w = random_vector(c.g.weight_count(), 2);
    const Tensor b = random_vector(c.g.out_channels, 3), skip = random_tensor(out, 4);
    for (const DType dtype : {DType::f32, DType::bf16}) {
      for (const double slope : {0.0, 0.01}) {
        INFO(text(describe(c), " ", name_of(dtype), ", slope ", slope));
        const ConvWeights weights = layer_weights(converted(w, DType::f32));
        const Tensor bias = converted(b, DType::f32), input = converted(x, dtype),
                     other = converted(skip, dtype);
        Tensor expected = Tensor::empty(out, dtype, {}), found = Tensor::empty(out, dtype, {});
        conv_forward(c.g, input, weights, bias, expected);
        activate(expected, {}, slope, other);
        conv_forward_act(c.g, input, weights, bias, slope, other, found);
        // In bf16 the steps round in between.
        CHECK(relative_error(found.to_doubles(), expected.to_doubles()) <
              (dtype == DType::f32 ? 1e-6 : 2e-2));
      }
    }
  }
}

namespace {

/// Holds `run(g, x, weights, dy, y, dx, dw)`, which overwrites y (without a bias) and dx and adds to dw,
/// against the plain loops in f64, in f32 and bf16.
template <class Run>
void check_passes(const Case& c, double f32_tolerance, double bf16_tolerance, const Run& run) {
  const Tensor w = random_vector(c.g.weight_count(), 2), b = random_vector(c.g.out_channels, 3);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    INFO(text(describe(c), " ", name_of(dtype)));
    const double tolerance = dtype == DType::f32 ? f32_tolerance : bf16_tolerance;
    const Tensor x = converted(converted(random_tensor(c.input, 1), dtype), DType::f64);
    const Tensor dy = converted(converted(random_tensor(c.g.output_shape(c.input), 4), dtype), DType::f64);
    const Results expected = run_all(c, DType::f64, DType::f64, {}, true, x, w, b, dy);
    Tensor y = Tensor::empty(dy.shape(), dtype, {}), dx = Tensor::empty(x.shape(), dtype, {});
    Tensor dw = converted(Tensor::zeros(w.shape(), DType::f64, {}), DType::f32);
    for (int64_t i = 0; i < dw.elements(); ++i) dw.data<float>()[i] = 1;
    run(c.g, converted(x, dtype), converted(w, DType::f32), converted(dy, dtype), y, dx, dw);
    activate(y, converted(b, DType::f32), 1, {});
    CHECK(relative_error(y.to_doubles(), expected.y.to_doubles()) < tolerance);
    CHECK(relative_error(dx.to_doubles(), expected.dx.to_doubles()) < tolerance);
    CHECK(relative_error(dw.to_doubles(), expected.dw.to_doubles()) < tolerance);
  }
}

}  // namespace

TEST_CASE("convolution without a library equals the reference") {
  for (const Case& c : small_cases()) {
    // bf16: y is rounded before and after the bias.
    check_passes(c, 2e-6, 1e-2,
                 [](const ConvGeometry& g, const Tensor& x, const Tensor& w, const Tensor& dy, Tensor& y,
                    Tensor& dx, Tensor& dw) {
                   if (g.transposed) {
                     direct::to_fine(g, x, w, y);
                     direct::to_coarse(g, dy, w, dx);
                     direct::to_weights(g, dy, x, dw);
                   } else {
                     direct::to_coarse(g, x, w, y);
                     direct::to_fine(g, dy, w, dx);
                     direct::to_weights(g, x, dy, dw);
                   }
                 });
  }
}

TEST_CASE("layers without neighbours as products of matrices equal the plain loops") {
  CHECK(!pointwise::takes(same3(3, 5)));
  for (const Case& c : {Case{point(3, 5), {2, 3, 4, 5, 7}}, Case{point(33, 1), {1, 33, 1, 1, 2}},
                        Case{point(1, 17), {1, 1, 1, 1, 301}}}) {
    REQUIRE(pointwise::takes(c.g));
    check_passes(c, 1e-6, 4e-3,
                 [](const ConvGeometry&, const Tensor& x, const Tensor& w, const Tensor& dy, Tensor& y,
                    Tensor& dx, Tensor& dw) {
                   pointwise::conv_forward(x, w, y);
                   pointwise::conv_backward_data(dy, w, dx);
                   pointwise::conv_backward_weights(x, dy, dw);
                 });
  }
}

TEST_CASE("packed weights and gradients go back and forth") {
  const int64_t coarse = 3, fine = 5, taps = 4;
  const Tensor w = converted(random_vector(coarse * fine * taps, 1), DType::f32);
  Tensor packed = Tensor::empty(w.shape(), DType::f32, {}), sum = w.clone();
  direct::pack_weights(w, fine, taps, packed);
  CHECK(packed.data<float>()[(1 * taps + 2) * fine + 4] == w.data<float>()[(1 * fine + 4) * taps + 2]);
  direct::add_unpacked(packed, fine, taps, sum);
  for (int64_t i = 0; i < w.elements(); ++i) CHECK(sum.data<float>()[i] == 2 * w.data<float>()[i]);
}

TEST_CASE("bf16 convolution to f32 logits on the CPU") {
  for (const int64_t channels : {4, 8, 16}) {
    check_against_reference({point(channels, 2), {2, channels, 6, 9, 12}}, DType::bf16, DType::f32, {}, 5e-3);
    check_against_reference({same3(channels, 3), {2, channels, 6, 9, 12}}, DType::bf16, DType::f32, {}, 5e-3);
  }
}

TEST_CASE("convolution packs again when the weights' version changes, and only then") {
  for (const Case& c : std::vector<Case>{{same3(16, 16), {1, 16, 4, 5, 6}}, {up2(8, 4), {1, 8, 2, 3, 4}}}) {
    INFO(describe(c));
    const Tensor x = converted(random_tensor(c.input, 1), DType::f32);
    const auto version = std::make_shared<uint64_t>(7);
    const ConvWeights weights{converted(random_vector(c.g.weight_count(), 2), DType::f32), version, nullptr};
    Tensor y = Tensor::empty(c.g.output_shape(c.input), DType::f32, {});
    conv_forward(c.g, x, weights, {}, y);
    const std::vector<double> before = y.to_doubles();
    for (int64_t i = 0; i < weights.values.elements(); ++i) weights.values.data<float>()[i] *= 2;
    conv_forward(c.g, x, weights, {}, y);
    CHECK(y.to_doubles() == before);
    *version += 1;
    conv_forward(c.g, x, weights, {}, y);
    std::vector<double> doubled = before;
    for (double& v : doubled) v *= 2;
    CHECK(y.to_doubles() == doubled);
  }
}

TEST_CASE("convolution gives the same bits again") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const Case& c :
         std::vector<Case>{{same3(16, 16), {2, 16, 12, 11, 10}}, {down2(8, 16), {2, 8, 12, 10, 8}}}) {
      const Tensor x = random_tensor(c.input, 1), w = random_vector(c.g.weight_count(), 2);
      const Tensor dy = random_tensor(c.g.output_shape(c.input), 4);
      const Results first = run_all(c, dtype, dtype, {}, false, x, w, {}, dy);
      const Results second = run_all(c, dtype, dtype, {}, false, x, w, {}, dy);
      CHECK(first.y.to_doubles() == second.y.to_doubles());
      CHECK(first.dx.to_doubles() == second.dx.to_doubles());
      CHECK(first.dw.to_doubles() == second.dw.to_doubles());
    }
  }
}

TEST_CASE("our own CPU kernels give the same bits for any number of threads") {
  // Products on patches in both dtypes; the bf16 layers without stride where the processor has matrix tiles.
  const int threads = thread_count();
  const auto compare = [&](const Case& c, DType dtype) {
    INFO(text(describe(c), " ", name_of(dtype)));
    const Tensor x = random_tensor(c.input, 1), w = random_vector(c.g.weight_count(), 2);
    const Tensor dy = random_tensor(c.g.output_shape(c.input), 4);
    set_thread_count(1);
    const Results one = run_all(c, dtype, dtype, {}, false, x, w, {}, dy);
    set_thread_count(3);
    const Results three = run_all(c, dtype, dtype, {}, false, x, w, {}, dy);
    set_thread_count(threads);
    CHECK(one.dw.to_doubles() == three.dw.to_doubles());
    CHECK(one.y.to_doubles() == three.y.to_doubles());
    CHECK(one.dx.to_doubles() == three.dx.to_doubles());
  };
  for (const DType dtype : {DType::f32, DType::bf16}) {
    compare({down2(16, 32), {2, 16, 20, 24, 28}}, dtype);
    compare({up2(32, 16), {2, 32, 10, 12, 14}}, dtype);
  }
  if (amx::available()) {
    compare({same3(16, 16), {2, 16, 40, 30, 28}}, DType::bf16);
    compare({same3(80, 48), {2, 80, 5, 6, 7}}, DType::bf16);
  } else {
    MESSAGE("skipped for bf16 3x3x3: this processor has no matrix tiles");
  }
}

TEST_CASE("convolution on the GPU equals the reference") {
  if (cuda_device_count() == 0) {
    MESSAGE("skipped: " << (cuda_compiled() ? cuda_unavailable_reason() : "built without CUDA"));
    return;
  }
  const Device gpu{DeviceKind::cuda, 0};
  for (const Case& c : network_cases()) {
    check_against_reference(c, DType::f32, DType::f32, gpu, 5e-6);
    check_against_reference(c, DType::bf16, DType::bf16, gpu, 1e-2);
    check_against_reference(c, DType::bf16, DType::f32, gpu, 5e-3);
  }
}
