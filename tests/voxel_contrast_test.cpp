// The contrastive loss between voxels: lists of negatives against sorting, the loss against the formula
// written out over all pairs in f64, gradients by central differences, numbers of the published code, and
// what it costs at the paper's size.
#include "layers/voxel_contrast.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/profile.hpp"
#include "kernels/info_nce.hpp"
#include "tests/hash_noise.hpp"
#include "tests/op_check.hpp"

using namespace semivox;
using namespace semivox::testing;

namespace {

/// s sin(a i + b) at flat (N, C, D, H, W) index i.
Tensor waves(const Shape& shape, double a, double b, double s) {
  return by_formula<double>(shape, [&](int64_t i) { return s * std::sin(a * static_cast<double>(i) + b); });
}

struct Problem {
  Tensor a, b, negatives, anchor_logits, negative_logits;

  Variable loss(const std::vector<Variable>& x, const VoxelContrastOptions& options) const {
    return voxel_contrast(x[0], x[1], x[2], anchor_logits, negative_logits, options);
  }
  double value(const VoxelContrastOptions& options) const {
    return loss({Variable(a), Variable(b), Variable(negatives)}, options).value().data<double>()[0];
  }
};

Problem random_problem(const Shape& anchors, const Shape& negatives, int64_t features, int64_t classes) {
  return {
      random_tensor(anchors.with_channels(features), 1), random_tensor(anchors.with_channels(features), 2),
      random_tensor(negatives.with_channels(features), 3), random_tensor(anchors.with_channels(classes), 4),
      random_tensor(negatives.with_channels(classes), 5)};
}

std::vector<double> probabilities(const Tensor& logits, int64_t row) {
  std::vector<double> p;
  for (int64_t c = 0; c < logits.shape().c; ++c)
    p.push_back(std::exp(logits.data<double>()[row * logits.shape().c + c]));
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) value /= total;
  return p;
}

int64_t class_of(const Tensor& logits, int64_t row) {
  const std::vector<double> p = probabilities(logits, row);
  return std::max_element(p.begin(), p.end()) - p.begin();
}

/// The voxels that an anchor of class c is contrasted with, by sorting all.
std::vector<int64_t> sorted_negatives(const Tensor& logits, int64_t c, const VoxelContrastOptions& options) {
  const int64_t rows = logits.shape().rows();
  std::vector<double> preference;
  for (int64_t j = 0; j < rows; ++j) {
    const std::vector<double> p = probabilities(logits, j);
    preference.push_back(class_of(logits, j) == c ? 0.0 : *std::max_element(p.begin(), p.end()));
  }
  std::vector<int64_t> order(preference.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t x, int64_t y) {
    return preference[static_cast<size_t>(x)] > preference[static_cast<size_t>(y)];
  });
  order.resize(static_cast<size_t>(std::min(options.negatives, rows)));
  if (!options.fill)
    std::erase_if(order, [&](int64_t j) { return preference[static_cast<size_t>(j)] == 0.0; });
  return order;
}

double cosine(const Tensor& x, int64_t i, const Tensor& y, int64_t j) {
  const int64_t features = x.shape().c;
  double xy = 0, xx = 0, yy = 0;
  for (int64_t f = 0; f < features; ++f) {
    const double u = x.data<double>()[i * features + f], v = y.data<double>()[j * features + f];
    xy += u * v;
    xx += u * u;
    yy += v * v;
  }
  return xy / (std::max(std::sqrt(xx), 1e-12) * std::max(std::sqrt(yy), 1e-12));
}

/// The formula, over all pairs.
double written_out(const Problem& p, const VoxelContrastOptions& options) {
  const int64_t rows = p.a.shape().rows(), classes = p.anchor_logits.shape().c;
  std::vector<std::vector<int64_t>> lists;
  for (int64_t c = 0; c < classes; ++c) lists.push_back(sorted_negatives(p.negative_logits, c, options));
  double total = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const double positive = std::exp(cosine(p.a, i, p.b, i) / options.temperature);
    for (const Tensor& anchor : {p.a, p.b}) {
      double sum = positive + 1e-8;
      for (const int64_t j : lists[static_cast<size_t>(class_of(p.anchor_logits, i))])
        sum += std::exp(cosine(anchor, i, p.negatives, j) / options.temperature);
      total -= std::log(positive / sum) / static_cast<double>(rows);
    }
  }
  return total;
}

Tensor constant_logits(const Shape& shape, int64_t winner) {
  return by_formula<double>(shape, [&](int64_t i) {
    return (i / shape.voxels()) % shape.c == winner ? 1.0 + 0.001 * static_cast<double>(i % 7) : 0.0;
  });
}

}  // namespace

TEST_CASE("negatives: places and lists are those of a stable sort by confidence") {
  for (const int64_t classes : {2, 3, 5}) {
    const Tensor logits = random_tensor({2, classes, 3, 5, 7}, 8);
    const int64_t rows = logits.shape().rows();
    for (const int64_t count : {1, 7, 100, 100000}) {
      for (const bool fill : {true, false}) {
        CAPTURE(classes);
        CAPTURE(count);
        CAPTURE(fill);
        const kernels::NegativeLists lists =
            kernels::choose_negatives(kernels::confident_classes(logits), classes, count, fill);
        const int64_t places = lists.chosen.shape().c;
        CHECK(places % kernels::NegativeLists::kKeyTile == 0);
        for (int64_t c = 0; c < classes; ++c) {
          const std::vector<int64_t> expected =
              sorted_negatives(logits, c, {.negatives = count, .fill = fill});
          std::vector<int64_t> found, positions(static_cast<size_t>(rows), -1);
          for (int64_t k = 0; k < places; ++k) {
            const int32_t voxel = lists.chosen.data<int32_t>()[c * places + k];
            if (voxel > 0) found.push_back(voxel - 1);
          }
          CHECK(found == expected);
          for (size_t k = 0; k < expected.size(); ++k)
            positions[static_cast<size_t>(expected[k])] = static_cast<int64_t>(k);
          bool equal = true;
          for (int64_t j = 0; j < rows; ++j)
            equal = equal && lists.place.data<int32_t>()[c * rows + j] == positions[static_cast<size_t>(j)];
          CHECK(equal);
        }
      }
    }
  }
}

TEST_CASE("negatives: equal confidences come in the order of the voxels, saturated ones, too") {
  Tensor logits = Tensor::zeros({1, 2, 1, 1, 40}, DType::f32, {});
  for (int64_t v = 0; v < 40; ++v) logits.data<float>()[2 * v + (v % 2)] = 50;  // all confidences are 1
  const kernels::NegativeLists lists =
      kernels::choose_negatives(kernels::confident_classes(logits), 2, 25, true);
  for (int64_t k = 0; k < 25; ++k) {
    const int64_t odd = k < 20 ? 2 * k + 1 : 2 * (k - 20);  // of class 1; then the filling, of class 0
    CHECK(lists.chosen.data<int32_t>()[k] == 1 + odd);
  }
}

TEST_CASE("voxel contrast: the published code's numbers") {
  Problem p{waves({1, 4, 2, 3, 4}, 1.3, 0.2, 1), waves({1, 4, 2, 3, 4}, 1.1, 0.4, 1),
            waves({1, 4, 2, 3, 4}, 0.9, 0.7, 1), waves({1, 2, 2, 3, 4}, 0.7, 0.1, 2),
            waves({1, 2, 2, 3, 4}, 0.5, 0.3, 2)};
  CHECK(p.value({.negatives = 3}) == doctest::Approx(6.6881188584).epsilon(1e-10));
  CHECK(p.value({.negatives = 10}) == doctest::Approx(9.5786529684).epsilon(1e-10));
}

TEST_CASE("voxel contrast: the formula over all pairs") {
  for (const int64_t classes : {2, 4}) {
    for (const int64_t features : {1, 5, 64}) {
      // Different numbers of anchors and negatives, more than one block of anchors.
      const Problem p = random_problem({2, 1, 7, 8, 9}, {1, 1, 5, 6, 7}, features, classes);
      for (const int64_t count : {1, 16, 50, 1000}) {
        for (const bool fill : {true, false}) {
          const VoxelContrastOptions options{.temperature = 0.1, .negatives = count, .fill = fill};
          CHECK(p.value(options) == doctest::Approx(written_out(p, options)).epsilon(1e-12));
        }
      }
    }
  }
}

TEST_CASE("voxel contrast: gradients of both views and the negatives") {
  const Shape anchors{2, 1, 2, 3, 3}, negatives{1, 1, 2, 3, 4};
  for (const int64_t classes : {2, 3}) {
    const Problem p = random_problem(anchors, negatives, 5, classes);
    for (const VoxelContrastOptions& options :
         {VoxelContrastOptions{.negatives = 4}, VoxelContrastOptions{.negatives = 100},
          VoxelContrastOptions{.temperature = 0.3, .negatives = 100, .fill = false}}) {
      check_op({p.a, p.b, p.negatives}, nullptr,
               [&](const std::vector<Variable>& x) { return p.loss(x, options); });
    }
  }
}

TEST_CASE("voxel contrast: gradients add up over blocks of anchors") {
  const Problem p = random_problem({1, 1, 10, 11, 12}, {1, 1, 3, 4, 5}, 3, 2);
  const auto graph = [&](const Variable& n) {
    return p.loss({Variable(p.a), Variable(p.b), n}, {.temperature = 0.5, .negatives = 20});
  };
  const Variable leaf(p.negatives, true);
  graph(leaf).backward();
  check_gradient("negatives", p.negatives, leaf.gradient(),
                 [&] { return graph(Variable(p.negatives)).value().data<double>()[0]; }, {.elements = 60});
}

TEST_CASE("voxel contrast: the same embeddings in several roles get the sum of their gradients") {
  const Problem p = random_problem({2, 1, 2, 2, 3}, {2, 1, 2, 2, 3}, 4, 2);
  check_op({random_tensor({4, 4, 2, 2, 3}, 6)}, nullptr, [&](const std::vector<Variable>& x) {
    return p.loss({x[0].samples(0, 2), x[0].samples(1, 2), x[0].samples(2, 2)}, {.negatives = 5});
  });
}

TEST_CASE("voxel contrast: nothing of another class") {
  Problem p = random_problem({1, 1, 2, 3, 4}, {1, 1, 2, 3, 4}, 4, 2);
  p.anchor_logits = constant_logits({1, 2, 2, 3, 4}, 0);
  p.negative_logits = constant_logits({1, 2, 2, 3, 4}, 0);
  // The list is filled with voxels of the anchors' own class, or stays empty: then only 1e-8 is left.
  CHECK(p.value({.negatives = 5}) == doctest::Approx(written_out(p, {.negatives = 5})).epsilon(1e-12));
  const double empty = p.value({.negatives = 5, .fill = false});
  CHECK(empty == doctest::Approx(written_out(p, {.negatives = 5, .fill = false})).epsilon(1e-12));
  CHECK(empty < 1e-2);
  const Variable n(p.negatives, true);
  p.loss({Variable(p.a), Variable(p.b), n}, {.negatives = 5, .fill = false}).backward();
  for (const double g : n.gradient().to_doubles()) CHECK(g == 0);
}

TEST_CASE("voxel contrast: vectors of length 0 and low temperatures stay finite") {
  Problem p = random_problem({1, 1, 2, 3, 4}, {1, 1, 2, 3, 4}, 4, 2);
  for (int64_t i = 0; i < 8; ++i) p.a.data<double>()[i] = 0;
  const VoxelContrastOptions cold{.temperature = 1e-3, .negatives = 5};  // exp(1000) overflows a double
  std::vector<Variable> x{Variable(p.a, true), Variable(p.b, true), Variable(p.negatives, true)};
  const Variable loss = p.loss(x, cold);
  CHECK(std::isfinite(loss.value().data<double>()[0]));
  loss.backward();
  for (const Variable& leaf : x)
    for (const double g : leaf.gradient().to_doubles()) CHECK(std::isfinite(g));
}

TEST_CASE("voxel contrast: f32 and bf16 agree with f64; the number of threads does not change a bit") {
  const Problem p = random_problem({1, 1, 11, 12, 13}, {1, 1, 11, 12, 13}, 64, 2);
  const int threads = thread_count();
  const auto run = [&](DType dtype, int count) {
    set_thread_count(count);
    std::vector<Variable> x;
    for (const Tensor& t : {p.a, p.b, p.negatives}) x.emplace_back(cast(t, dtype), true);
    const DType logits = dtype == DType::f64 ? DType::f64 : DType::f32;
    const Variable loss = voxel_contrast(x[0], x[1], x[2], cast(p.anchor_logits, logits),
                                         cast(p.negative_logits, logits), {.negatives = 100});
    loss.backward();
    set_thread_count(threads);
    std::vector<double> all = loss.value().to_doubles();
    for (const Variable& leaf : x) {
      const std::vector<double> g = leaf.gradient().to_doubles();
      all.insert(all.end(), g.begin(), g.end());
    }
    return all;
  };
  const std::vector<double> exact = run(DType::f64, 1), single = run(DType::f32, 1),
                            half = run(DType::bf16, 1);
  CHECK(exact == run(DType::f64, 3));
  CHECK(single == run(DType::f32, 3));
  CHECK(single[0] == doctest::Approx(exact[0]).epsilon(1e-6));
  CHECK(half[0] == doctest::Approx(exact[0]).epsilon(1e-3));
  double largest = 0, error = 0, half_error = 0;
  for (size_t i = 1; i < exact.size(); ++i) {
    largest = std::max(largest, std::abs(exact[i]));
    error = std::max(error, std::abs(single[i] - exact[i]));
    half_error = std::max(half_error, std::abs(half[i] - exact[i]));
  }
  MESSAGE("gradients: f32 ", error / largest, ", bf16 ", half_error / largest);
  CHECK(error / largest < 2e-6);
  CHECK(half_error / largest < 1e-2);  // measured 5e-7 and 4e-3
}

TEST_CASE("voxel contrast: memory at the paper's size, 15,680 voxels of 64 features, 400 negatives") {
  const Shape shape{1, 64, 28, 28, 20};
  const Shape logits = shape.with_channels(2);
  const auto f32 = [](const Shape& s, uint32_t seed) { return cast(random_tensor(s, seed), DType::f32); };
  const Variable a(f32(shape, 1), true), b(f32(shape, 2), true), n(f32(shape, 3), true);
  const Tensor anchor_logits = f32(logits, 4), negative_logits = f32(logits, 5);
  reset_peak_memory({});
  const int64_t before = memory_statistics({}).live_total;
  const double start = now_seconds();
  const Variable loss = voxel_contrast(a, b, n, anchor_logits, negative_logits, {});
  const double forward = now_seconds();
  loss.backward();
  const double end = now_seconds();
  const int64_t peak = memory_statistics({}).peak_total - before;
  MESSAGE("forward ", 1e3 * (forward - start), " ms, backward ", 1e3 * (end - forward), " ms, ",
          format_bytes(peak), " on ", thread_count(), " threads");
  CHECK(peak < (int64_t{64} << 20));  // a matrix of all pairs would be 938 MiB
}

TEST_CASE("voxel contrast: CUDA equals the CPU") {
  if (cuda_device_count() == 0) {
    MESSAGE("skipped: ", cuda_unavailable_reason());
    return;
  }
  const Problem p = random_problem({1, 1, 11, 12, 13}, {1, 1, 11, 12, 13}, 64, 3);
  std::vector<double> found[2];
  for (int g = 0; g < 2; ++g) {
    const Device device = g == 0 ? Device{} : Device{DeviceKind::cuda, 0};
    std::vector<Variable> x;
    for (const Tensor& t : {p.a, p.b, p.negatives}) x.emplace_back(cast(t, DType::f32).to(device), true);
    const Variable loss = voxel_contrast(x[0], x[1], x[2], cast(p.anchor_logits, DType::f32).to(device),
                                         cast(p.negative_logits, DType::f32).to(device), {.negatives = 100});
    loss.backward();
    found[g] = loss.value().to_doubles();
    for (const Variable& leaf : x) {
      const std::vector<double> gradient = leaf.gradient().to_doubles();
      found[g].insert(found[g].end(), gradient.begin(), gradient.end());
    }
  }
  CHECK(found[1][0] == doctest::Approx(found[0][0]).epsilon(1e-6));
  double largest = 0, error = 0;
  for (size_t i = 1; i < found[0].size(); ++i) {
    largest = std::max(largest, std::abs(found[0][i]));
    error = std::max(error, std::abs(found[1][i] - found[0][i]));
  }
  CHECK(error / largest < 1e-5);
}
