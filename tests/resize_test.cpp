// Pooling, resizing, tanh and element-wise dropout: values against plain loops, gradients against central
// differences, equal bits for any number of threads, f32 and bf16 against f64.

#include "layers/resize.hpp"

#include <doctest/doctest.h>

#include "kernels/pointwise.hpp"
#include "layers/pointwise.hpp"
#include "tests/op_check.hpp"

using namespace semivox;
using namespace semivox::testing;
using kernels::Grid;
using kernels::Interpolation;
using Size = std::array<int64_t, 3>;

namespace {

double at(const Tensor& t, int64_t n, int64_t c, int64_t d, int64_t h, int64_t w) {
  const Shape s = t.shape();
  return t.data<double>()[(((n * s.d + d) * s.h + h) * s.w + w) * s.c + c];
}

/// Calls f(n, c, d, h, w) for every element.
template <class F>
void for_elements(const Shape& s, const F& f) {
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t c = 0; c < s.c; ++c)
      for (int64_t d = 0; d < s.d; ++d)
        for (int64_t h = 0; h < s.h; ++h)
          for (int64_t w = 0; w < s.w; ++w) f(n, c, d, h, w);
}

/// The two source voxels of output voxel i and the second one's weight, from PyTorch's documentation.
struct Source {
  int64_t lower, upper;
  double weight;
};

Source source_of(int64_t i, int64_t in, int64_t out, Interpolation interpolation) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  double x = 0;
  if (interpolation == Interpolation::nearest) x = std::floor(static_cast<double>(i) * scale + 1e-9);
  if (interpolation == Interpolation::linear) x = std::max(0.0, (static_cast<double>(i) + 0.5) * scale - 0.5);
  if (interpolation == Interpolation::linear_aligned && out > 1)
    x = static_cast<double>(i) * static_cast<double>(in - 1) / static_cast<double>(out - 1);
  const auto lower = static_cast<int64_t>(std::floor(x));
  return {lower, std::min(lower + 1, in - 1), x - std::floor(x)};
}

double oracle(const Tensor& x, int64_t n, int64_t c, const Size& voxel, const Size& size,
              Interpolation interpolation) {
  const Shape s = x.shape();
  const Source d = source_of(voxel[0], s.d, size[0], interpolation),
               h = source_of(voxel[1], s.h, size[1], interpolation),
               w = source_of(voxel[2], s.w, size[2], interpolation);
  double sum = 0;
  for (int corner = 0; corner < 8; ++corner) {
    const bool ud = corner & 1, uh = corner & 2, uw = corner & 4;
    sum += (ud ? d.weight : 1 - d.weight) * (uh ? h.weight : 1 - h.weight) * (uw ? w.weight : 1 - w.weight) *
           at(x, n, c, ud ? d.upper : d.lower, uh ? h.upper : h.lower, uw ? w.upper : w.lower);
  }
  return sum;
}

constexpr Interpolation kAll[] = {Interpolation::nearest, Interpolation::linear,
                                  Interpolation::linear_aligned};

/// Largest difference of f(x) in `dtype` from f(x) in f64, relative to the largest element.
template <class F>
double relative_error(const Tensor& x, DType dtype, const F& f) {
  const std::vector<double> exact = f(x).to_doubles(), found = f(cast(x, dtype)).to_doubles();
  REQUIRE(exact.size() == found.size());
  double error = 0, largest = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    error = std::max(error, std::abs(found[i] - exact[i]));
    largest = std::max(largest, std::abs(exact[i]));
  }
  return error / largest;
}

}  // namespace

TEST_CASE("resize: every voxel as the definition says, up, down and by odd factors") {
  const std::pair<Size, Size> cases[] = {
      {{2, 3, 4}, {4, 6, 8}}, {{1, 5, 3}, {1, 10, 6}}, {{3, 2, 5}, {9, 7, 11}}, {{8, 4, 6}, {2, 1, 3}},
      {{1, 1, 1}, {2, 3, 4}}, {{2, 2, 2}, {16, 2, 8}}, {{4, 4, 4}, {4, 4, 4}},  {{5, 7, 1}, {3, 4, 1}}};
  for (const Interpolation interpolation : kAll) {
    for (const auto& [from, size] : cases) {
      INFO(static_cast<int>(interpolation), ": ", from[0], "x", from[1], "x", from[2], " to ", size[0], "x",
           size[1], "x", size[2]);
      const Tensor x = random_tensor({2, 3, from[0], from[1], from[2]}, 1);
      const Tensor y = kernels::resize(x, size, interpolation);
      REQUIRE(y.shape() == Shape{2, 3, size[0], size[1], size[2]});
      double worst = 0;
      for_elements(y.shape(), [&](int64_t n, int64_t c, int64_t d, int64_t h, int64_t w) {
        const double expected = oracle(x, n, c, {d, h, w}, size, interpolation);
        worst = std::max(worst, std::abs(at(y, n, c, d, h, w) - expected));
      });
      CHECK(worst < 1e-14);
      check_op({x}, nullptr,
               [&](const std::vector<Variable>& v) { return resize(v[0], size, interpolation); });
    }
  }
}

TEST_CASE("resize: PyTorch's numbers for a row of three") {
  Tensor x = Tensor::empty({1, 1, 1, 1, 3}, DType::f64, {});
  const double values[] = {1, 2, 4};
  std::copy_n(values, 3, x.data<double>());
  const auto row = [&](Interpolation interpolation) {
    return kernels::resize(x, {1, 1, 6}, interpolation).to_doubles();
  };
  using Row = std::vector<double>;
  CHECK(row(Interpolation::nearest) == Row{1, 1, 2, 2, 4, 4});
  CHECK(row(Interpolation::linear) == Row{1, 1.25, 1.75, 2.5, 3.5, 4});
  const Row aligned = row(Interpolation::linear_aligned), expected{1, 1.4, 1.8, 2.4, 3.2, 4};
  for (size_t i = 0; i < 6; ++i) CHECK(aligned[i] == doctest::Approx(expected[i]).epsilon(1e-15));
}

TEST_CASE("upsample doubles a volume, or H and W of slices") {
  const Variable x(random_tensor({2, 3, 2, 4, 3}, 1));
  CHECK(upsample(x, 2, Interpolation::linear).shape() == Shape{2, 3, 4, 8, 6});
  CHECK(upsample(x, 4, Interpolation::nearest, Grid::slice).shape() == Shape{2, 3, 2, 16, 12});
}

TEST_CASE("max-pool: values, first maximum gets the gradient, NaN is seen") {
  for (const Grid grid : {Grid::volume, Grid::slice}) {
    const int64_t depth = grid == Grid::volume ? 2 : 1;
    const Tensor x = random_tensor({2, 3, 2 * depth, 4, 6}, 5);
    const Tensor y = kernels::max_pool(x, grid);
    REQUIRE(y.shape() == Shape{2, 3, 2, 2, 3});
    for_elements(y.shape(), [&](int64_t n, int64_t c, int64_t d, int64_t h, int64_t w) {
      double largest = -1e300;
      for (int64_t k = 0; k < depth * 4; ++k)
        largest = std::max(largest, at(x, n, c, depth * d + k / 4, 2 * h + k / 2 % 2, 2 * w + k % 2));
      CHECK_UNARY(at(y, n, c, d, h, w) == largest);
    });
    check_op({x}, nullptr, [&](const std::vector<Variable>& v) { return max_pool(v[0], grid); });
  }
  const Tensor equal = Tensor::zeros({1, 1, 2, 2, 2}, DType::f64, {});
  Tensor one = Tensor::empty({1, 1, 1, 1, 1}, DType::f64, {});
  fill(one, 1.0);
  using Row = std::vector<double>;
  CHECK(kernels::max_pool_backward(equal, one, Grid::volume).to_doubles() == Row{1, 0, 0, 0, 0, 0, 0, 0});
  equal.data<double>()[6] = equal.data<double>()[3] = 2;
  CHECK(kernels::max_pool_backward(equal, one, Grid::volume).to_doubles() == Row{0, 0, 0, 1, 0, 0, 0, 0});
  equal.data<double>()[0] = std::nan("");
  CHECK(std::isnan(kernels::max_pool(equal, Grid::volume).to_doubles()[0]));
  CHECK_THROWS_AS(kernels::max_pool(random_tensor({1, 1, 3, 2, 2}, 1), Grid::volume), InternalError);
  CHECK_NOTHROW(kernels::max_pool(random_tensor({1, 1, 3, 2, 2}, 1), Grid::slice));
  CHECK_THROWS_AS(kernels::max_pool(random_tensor({1, 1, 2, 2, 5}, 1), Grid::slice), InternalError);
}

TEST_CASE("global average over the voxels") {
  const Tensor x = random_tensor({2, 3, 3, 5, 2}, 7);
  const Tensor y = kernels::global_average(x);
  REQUIRE(y.shape() == Shape{2, 3, 1, 1, 1});
  for (int64_t n = 0; n < 2; ++n) {
    for (int64_t c = 0; c < 3; ++c) {
      double sum = 0;
      for (int64_t v = 0; v < 30; ++v) sum += x.data<double>()[(n * 30 + v) * 3 + c];
      CHECK(y.data<double>()[n * 3 + c] == doctest::Approx(sum / 30).epsilon(1e-13));
    }
  }
  check_op({x}, nullptr, [](const std::vector<Variable>& v) { return global_average(v[0]); });
}

TEST_CASE("tanh") {
  const Tensor x = random_tensor({1, 2, 3, 1, 5}, 8);
  const Tensor y = tanh(Variable(x)).value();
  for (int64_t i = 0; i < x.elements(); ++i)
    CHECK_UNARY(y.data<double>()[i] == std::tanh(x.data<double>()[i]));
  check_op({x}, nullptr, [](const std::vector<Variable>& v) { return tanh(v[0]); });
}

TEST_CASE("dropout of elements: zero or scaled, as often as asked for, the same again in backward") {
  const Tensor x = random_tensor({2, 5, 7, 11, 13}, 9);
  const RandomStream stream{3, 4, 5};
  const Tensor y = dropout(Variable(x), 0.3, stream).value();
  int64_t dropped = 0;
  for (int64_t i = 0; i < x.elements(); ++i) {
    const bool gone = y.data<double>()[i] == 0;
    dropped += gone;
    CHECK_UNARY(gone == (stream.uniform(static_cast<uint64_t>(i)) < 0.3f));
    if (!gone) CHECK_UNARY(y.data<double>()[i] == x.data<double>()[i] * (1 / 0.7));
  }
  const double share = static_cast<double>(dropped) / static_cast<double>(x.elements());
  CHECK(std::abs(share - 0.3) < 3 * std::sqrt(0.21 / static_cast<double>(x.elements())));
  check_op({random_tensor({1, 3, 2, 1, 3}, 1)}, nullptr,
           [&](const std::vector<Variable>& v) { return dropout(v[0], 0.3, stream); });
}

TEST_CASE("f32 and bf16 stay within rounding of f64") {
  const Tensor x = random_tensor({2, 5, 4, 6, 8}, 10);
  const std::pair<DType, double> limits[] = {{DType::f32, 3e-7}, {DType::bf16, 1.6e-2}};
  for (const auto& [dtype, limit] : limits) {
    INFO(name_of(dtype));
    for (const Interpolation interpolation : kAll) {
      CHECK(relative_error(x, dtype, [&](const Tensor& t) {
              return kernels::resize(t, {8, 12, 16}, interpolation);
            }) < limit);
      CHECK(relative_error(x, dtype, [&](const Tensor& t) {
              return kernels::resize_backward(t, {2, 3, 4}, interpolation);
            }) < limit);
    }
    CHECK(relative_error(x, dtype, [](const Tensor& t) { return kernels::max_pool(t, Grid::volume); }) <
          limit);
    CHECK(relative_error(x, dtype, [](const Tensor& t) { return kernels::global_average(t); }) < limit);
    CHECK(relative_error(x, dtype, [](const Tensor& t) { return tanh(Variable(t)).value(); }) < limit);
    CHECK(relative_error(x, dtype, [](const Tensor& t) {
            return kernels::dropout_elements(t, 0.5, {1, 2, 3});
          }) < limit);
  }
}

TEST_CASE("one and two threads give the same bits") {
  const int threads = thread_count();
  const Tensor x = cast(random_tensor({2, 6, 10, 12, 14}, 11), DType::f32);
  std::vector<std::vector<double>> results[2];
  for (const int count : {1, 2}) {
    set_thread_count(count);
    auto& found = results[count - 1];
    for (const Interpolation interpolation : kAll) {
      found.push_back(kernels::resize(x, {20, 24, 28}, interpolation).to_doubles());
      found.push_back(kernels::resize_backward(x, {5, 6, 7}, interpolation).to_doubles());
    }
    found.push_back(kernels::max_pool(x, Grid::volume).to_doubles());
    found.push_back(
        kernels::max_pool_backward(x, kernels::max_pool(x, Grid::volume), Grid::volume).to_doubles());
    found.push_back(kernels::global_average(x).to_doubles());
    found.push_back(kernels::dropout_elements(x, 0.5, {1, 2, 3}).to_doubles());
  }
  set_thread_count(threads);
  CHECK(results[0] == results[1]);
}
