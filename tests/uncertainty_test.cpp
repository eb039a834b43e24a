// Maps made from logits without gradients, and copy-paste masks: against plain loops in f64 and the published
// code's ranges.

#include "kernels/uncertainty.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "kernels/mixing.hpp"
#include "tests/gradients.hpp"
#include "tests/hash_noise.hpp"

using namespace semivox;
using semivox::testing::by_formula;
using semivox::testing::hash_noise;

namespace {

/// Probabilities of one voxel, from the definition.
std::vector<double> softmax_of(const double* z, int64_t classes) {
  double total = 0;
  for (int64_t c = 0; c < classes; ++c) total += std::exp(z[c]);
  std::vector<double> p;
  for (int64_t c = 0; c < classes; ++c) p.push_back(std::exp(z[c]) / total);
  return p;
}

}  // namespace

TEST_CASE("softmax, entropy, KL and the mean of passes equal the definitions, f64 and f32") {
  for (const int64_t classes : {2, 4, 5}) {
    CAPTURE(classes);
    const Shape shape{2, classes, 3, 5, 4};
    const auto check = [&](auto zero, double tolerance) {
      using T = decltype(zero);
      const auto logits = [&](int64_t number) {
        return by_formula<T>(shape, [&](int64_t i) { return 4 * hash_noise(i, number); });
      };
      const Tensor a = logits(1), b = logits(2);
      const std::vector<double> za = a.to_doubles(), zb = b.to_doubles();
      const std::vector<double> p = kernels::softmax(a).to_doubles();
      const std::vector<double> u = kernels::entropy(kernels::softmax(a)).to_doubles();
      const std::vector<double> kl = kernels::kl_divergence(a, b).to_doubles();
      Tensor both = Tensor::empty(shape.with_samples(4), a.dtype(), {});
      both.samples(0, 2).copy_from(a);
      both.samples(2, 2).copy_from(b);
      Tensor mean = Tensor::zeros(shape, a.dtype(), {});
      kernels::accumulate_softmax(both, 2, 0.5, mean);
      const std::vector<double> m = mean.to_doubles();
      double largest = 0;
      for (int64_t row = 0; row < shape.rows(); ++row) {
        const std::vector<double> pa = softmax_of(za.data() + row * classes, classes);
        const std::vector<double> pb = softmax_of(zb.data() + row * classes, classes);
        double entropy = 0, divergence = 0;
        for (size_t c = 0; c < pa.size(); ++c) {
          const size_t i = static_cast<size_t>(row * classes) + c;
          entropy -= pa[c] * std::log(pa[c] + 1e-6);
          divergence += pa[c] * std::log(pa[c] / pb[c]);
          largest = std::max({largest, std::abs(p[i] - pa[c]), std::abs(m[i] - (pa[c] + pb[c]) / 2)});
        }
        const auto v = static_cast<size_t>(row);
        largest = std::max({largest, std::abs(u[v] - entropy), std::abs(kl[v] - divergence)});
      }
      CHECK(largest < tolerance);
    };
    check(double{}, 1e-14);
    check(float{}, 4e-6);
  }
}

TEST_CASE("the number of threads does not change a bit of a map") {
  const Tensor z = by_formula<float>({2, 4, 24, 20, 16}, [](int64_t i) { return 4 * hash_noise(i, 3); });
  const std::vector<double> many = kernels::entropy(kernels::softmax(z)).to_doubles();
  const testing::OneThread one_thread;
  CHECK(kernels::entropy(kernels::softmax(z)).to_doubles() == many);
}

TEST_CASE("hard labels: highest logit, ties to the lower class, or to the foreground as in BCP") {
  const Tensor two = by_formula<double>({1, 2, 1, 1, 3}, [](int64_t i) {
    return std::array<double, 6>{1, 0.5, 0, 0, 0.5, 1}[static_cast<size_t>(i)];
  });
  CHECK(kernels::hard_labels(two, false).to_doubles() == std::vector<double>{0, 0, 1});
  CHECK(kernels::hard_labels(two, true).to_doubles() == std::vector<double>{0, 1, 1});
  const Tensor three = by_formula<double>({1, 3, 1, 1, 2}, [](int64_t i) {
    return std::array<double, 6>{0, 1, 2, 1, 2, 3}[static_cast<size_t>(i)];
  });
  CHECK(kernels::hard_labels(three, true).to_doubles() == std::vector<double>{1, 2});
}

TEST_CASE("noisy copies: clipped normal noise of its own for every element, none for sigma 0") {
  const Tensor x = by_formula<float>({2, 1, 20, 20, 20}, [](int64_t i) { return hash_noise(i, 0); });
  const Tensor noisy = kernels::noisy_copies(x, 2, 0.1, 0.2, {7, 1, 0});
  CHECK(noisy.shape() == x.shape().with_samples(4));
  const std::vector<double> clean = x.to_doubles(), values = noisy.to_doubles();
  double sum = 0, squares = 0, product = 0, largest = 0;
  const size_t count = clean.size();
  for (size_t i = 0; i < 2 * count; ++i) {
    const double e = values[i] - clean[i % count];
    sum += e;
    squares += e * e;
    largest = std::max(largest, std::abs(e));
    if (i < count) product += e * (values[i + count] - clean[i]);
  }
  const double n = static_cast<double>(2 * count);  // 32,000: standard error of the mean 5e-4
  CHECK(std::abs(sum / n) < 3e-3);
  // A normal clipped at two sigma keeps a variance of 0.9205 sigma^2.
  CHECK(squares / n == doctest::Approx(0.009205).epsilon(0.03));
  CHECK(std::abs(product / squares) < 0.03);  // the two copies are independent
  CHECK(largest == doctest::Approx(0.2).epsilon(1e-5));
  CHECK(kernels::noisy_copies(x, 1, 0, 0.2, {7, 1, 0}).to_doubles() == clean);
}

namespace {

struct Range {
  int64_t lowest = INT64_MAX, highest = INT64_MIN;
  void add(int64_t v) {
    lowest = std::min(lowest, v);
    highest = std::max(highest, v);
  }
  bool operator==(const Range&) const = default;
};

int64_t zeros_of(const Tensor& mask) {
  const std::vector<double> m = mask.to_doubles();
  return std::count(m.begin(), m.end(), 0.0);
}

}  // namespace

TEST_CASE("box masks: sides and corners as published, the last position never drawn") {
  struct Row {
    std::array<int64_t, 3> size, side, last;
  };
  for (const Row& row :
       {Row{{112, 112, 80}, {74, 74, 53}, {37, 37, 26}}, Row{{96, 96, 96}, {64, 64, 64}, {31, 31, 31}},
        Row{{1, 256, 256}, {1, 170, 170}, {0, 85, 85}}}) {
    std::array<Range, 3> corners;
    for (uint64_t step = 0; step < 4000; ++step) {
      const kernels::Box box = kernels::draw_box(row.size, 2.0 / 3, {1337, step, 0});
      for (size_t axis = 0; axis < 3; ++axis) {
        REQUIRE(box.end[axis] - box.begin[axis] == row.side[axis]);
        corners[axis].add(box.begin[axis]);
      }
    }
    for (size_t axis = 0; axis < 3; ++axis) CHECK((corners[axis] == Range{0, row.last[axis]}));
  }
  const kernels::Box fixed = kernels::box_at({32, 32, 16}, 2.0 / 3, {3, 4, 2});
  CHECK(fixed.begin == std::array<int64_t, 3>{3, 4, 2});
  CHECK(fixed.end == std::array<int64_t, 3>{24, 25, 12});
  CHECK_THROWS_AS(kernels::box_at({32, 32, 16}, 2.0 / 3, {12, 0, 0}), UsageError);
}

TEST_CASE("grid and band masks: sides, places and area as published") {
  struct Row {
    std::array<int64_t, 3> size, cell, side, last;
    size_t boxes;
  };
  for (const Row& row : {Row{{112, 112, 80}, {37, 37, 26}, {25, 25, 17}, {10, 10, 7}, 27},
                         Row{{1, 256, 256}, {1, 85, 85}, {1, 56, 56}, {0, 28, 28}, 9}}) {
    std::array<Range, 3> offsets;
    for (uint64_t step = 0; step < 300; ++step) {
      const std::vector<kernels::Box> boxes = kernels::draw_grid_boxes(row.size, {1337, step, 0});
      REQUIRE(boxes.size() == row.boxes);
      std::set<std::array<int64_t, 3>> cells;
      for (const kernels::Box& box : boxes) {
        std::array<int64_t, 3> cell;
        for (size_t axis = 0; axis < 3; ++axis) {
          REQUIRE(box.end[axis] - box.begin[axis] == row.side[axis]);
          cell[axis] = box.begin[axis] / row.cell[axis];
          offsets[axis].add(box.begin[axis] % row.cell[axis]);
        }
        cells.insert(cell);
      }
      REQUIRE(cells.size() == row.boxes);  // one in each
    }
    for (size_t axis = 0; axis < 3; ++axis) CHECK((offsets[axis] == Range{0, row.last[axis]}));
    const Tensor mask = kernels::box_mask(row.size, kernels::draw_grid_boxes(row.size, {1, 2, 3}), {});
    CHECK(zeros_of(mask) == static_cast<int64_t>(row.boxes) * row.side[0] * row.side[1] * row.side[2]);
  }

  Range slices, rows;
  for (uint64_t step = 0; step < 4000; ++step) {
    const kernels::Box band = kernels::draw_band({112, 112, 80}, {1337, step, 0});
    REQUIRE(band.end[2] - band.begin[2] == 23);
    slices.add(band.begin[2]);
    const kernels::Box flat = kernels::draw_band({1, 256, 256}, {1337, step, 0});
    REQUIRE(flat.end[1] - flat.begin[1] == 113);
    rows.add(flat.begin[1]);
  }
  CHECK((slices == Range{0, 55}));
  CHECK((rows == Range{0, 142}));
  const Tensor mask = kernels::box_mask({112, 112, 80}, {kernels::draw_band({112, 112, 80}, {1, 2, 3})}, {});
  CHECK(zeros_of(mask) == 23 * 112 * 112);
}

TEST_CASE("copy-paste takes the outer image where the mask is 1, for every type") {
  const Shape shape{2, 2, 4, 5, 3};
  const Tensor mask = kernels::box_mask({4, 5, 3}, {{{1, 2, 0}, {3, 4, 2}}}, {});
  const auto check = [&](auto zero) {
    using T = decltype(zero);
    const auto values = [&](int64_t first) {
      Tensor t = Tensor::empty(shape, dtype_of<T>(), {});
      for (int64_t i = 0; i < t.elements(); ++i)
        t.data<T>()[i] = static_cast<T>(static_cast<float>((first + i) % 251));
      return t;
    };
    const Tensor outer = values(0), inner = values(100);
    const std::vector<double> o = outer.to_doubles(), n = inner.to_doubles();
    const std::vector<double> out = kernels::copy_paste(outer, inner, mask).to_doubles();
    int64_t wrong = 0;
    for (int64_t i = 0; i < shape.elements(); ++i) {
      const int64_t v = i / 2 % shape.voxels(), d = v / 15, h = v / 3 % 5, w = v % 3;
      const bool inside = d >= 1 && d < 3 && h >= 2 && h < 4 && w < 2;
      const auto k = static_cast<size_t>(i);
      wrong += out[k] != (inside ? n[k] : o[k]);
    }
    CHECK(wrong == 0);
  };
  check(float{});
  check(double{});
  check(bf16{});
  check(uint8_t{});
}
