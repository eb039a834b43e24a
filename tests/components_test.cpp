// Connected components against a brute-force flood fill.
#include "kernels/components.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <utility>
#include <vector>

#include "engine/parallel.hpp"
#include "engine/random.hpp"

using namespace semivox;

namespace {

Tensor mask_tensor(Shape shape, const std::vector<uint8_t>& values) {
  Tensor mask = Tensor::empty(shape, DType::u8, Device{});
  std::copy(values.begin(), values.end(), mask.data<uint8_t>());
  return mask;
}

std::vector<uint8_t> bytes_of(const Tensor& tensor) {
  return {tensor.data<uint8_t>(), tensor.data<uint8_t>() + tensor.elements()};
}

/// Voxels of value 1 ... classes-1 with the given share; otherwise 0.
std::vector<uint8_t> random_labels(const Shape& shape, double share, int classes, uint64_t seed) {
  const RandomStream random{seed, 0, 0};
  std::vector<uint8_t> values(static_cast<size_t>(shape.elements()));
  for (size_t i = 0; i < values.size(); ++i) {
    if (random.uniform(2 * i) < share)
      values[i] = static_cast<uint8_t>(1 + random.integer(2 * i + 1, classes - 1));
  }
  return values;
}

/// Labels by flood fill from each unvisited voxel in C order: numbers from 1 per sample. Voxels touch when
/// they have the same value and differ by at most 1 in each and in sum by at most `axes`.
std::vector<int> flood_fill(const Shape& s, const std::vector<uint8_t>& values, int axes) {
  std::vector<int> labels(values.size(), 0);
  for (int64_t n = 0; n < s.n; ++n) {
    int number = 0;
    const auto at = [&](int64_t d, int64_t h, int64_t w) {
      return static_cast<size_t>(((n * s.d + d) * s.h + h) * s.w + w);
    };
    for (int64_t d0 = 0; d0 < s.d; ++d0)
      for (int64_t h0 = 0; h0 < s.h; ++h0)
        for (int64_t w0 = 0; w0 < s.w; ++w0) {
          if (values[at(d0, h0, w0)] == 0 || labels[at(d0, h0, w0)] != 0) continue;
          labels[at(d0, h0, w0)] = ++number;
          std::vector<std::array<int64_t, 3>> stack{{d0, h0, w0}};
          while (!stack.empty()) {
            const auto [d, h, w] = stack.back();
            stack.pop_back();
            for (int64_t a = -1; a <= 1; ++a)
              for (int64_t b = -1; b <= 1; ++b)
                for (int64_t c = -1; c <= 1; ++c) {
                  if (std::abs(a) + std::abs(b) + std::abs(c) > axes) continue;
                  const int64_t p = d + a, q = h + b, r = w + c;
                  if (p < 0 || q < 0 || r < 0 || p >= s.d || q >= s.h || r >= s.w) continue;
                  if (values[at(p, q, r)] != values[at(d, h, w)] || labels[at(p, q, r)] != 0) continue;
                  labels[at(p, q, r)] = number;
                  stack.push_back({p, q, r});
                }
          }
        }
  }
  return labels;
}

/// Largest component of each class and sample by counting the flood fill's labels; the first of equals.
std::vector<uint8_t> brute_force_largest(const Shape& s, const std::vector<uint8_t>& values, int axes) {
  const std::vector<int> labels = flood_fill(s, values, axes);
  std::vector<uint8_t> kept(values.size(), 0);
  const size_t voxels = static_cast<size_t>(s.voxels());
  for (size_t begin = 0; begin < values.size(); begin += voxels) {
    std::vector<int> size(voxels + 1, 0), value(voxels + 1, 0);
    for (size_t i = begin; i < begin + voxels; ++i) {
      ++size[labels[i]];
      value[labels[i]] = values[i];
    }
    for (int k = 1; k < 256; ++k) {
      size_t best = 0;
      for (size_t label = 1; label <= voxels; ++label) {
        if (value[label] == k && (best == 0 || size[label] > size[best])) best = label;
      }
      if (best == 0) continue;
      for (size_t i = begin; i < begin + voxels; ++i) {
        if (labels[i] == static_cast<int>(best)) kept[i] = values[i];
      }
    }
  }
  return kept;
}

const std::vector<std::pair<int, int>> kNeighbourhoods{{6, 1}, {18, 2}, {26, 3}};

}  // namespace

TEST_CASE("components: labels and largest component equal flood fill") {
  const std::vector<Shape> shapes{{1, 1, 9, 8, 7},  {3, 1, 5, 6, 11}, {1, 1, 1, 12, 13}, {2, 1, 7, 1, 9},
                                  {2, 1, 6, 10, 1}, {1, 1, 1, 1, 17}, {1, 1, 17, 1, 1}};
  uint64_t seed = 1;
  for (const Shape& shape : shapes) {
    for (const double share : {0.1, 0.25, 0.5, 0.8}) {
      for (const auto& [neighbours, axes] : kNeighbourhoods) {
        CAPTURE(shape.str());
        CAPTURE(share);
        CAPTURE(neighbours);
        const std::vector<uint8_t> values = random_labels(shape, share, 2, seed++);
        const Tensor mask = mask_tensor(shape, values);
        Tensor labels = Tensor::empty(shape, DType::i32, Device{});
        kernels::label_components(mask, neighbours, labels);
        const std::vector<int> expected = flood_fill(shape, values, axes);
        CHECK(std::vector<int>(labels.data<int32_t>(), labels.data<int32_t>() + labels.elements()) ==
              expected);
        Tensor largest = Tensor::empty(shape, DType::u8, Device{});
        kernels::largest_component(mask, neighbours, largest);
        CHECK(bytes_of(largest) == brute_force_largest(shape, values, axes));
      }
    }
  }
}

TEST_CASE("components: largest component of each class") {
  uint64_t seed = 100;
  for (const Shape& shape : {Shape{2, 1, 6, 7, 9}, Shape{1, 1, 1, 15, 16}}) {
    for (const auto& [neighbours, axes] : kNeighbourhoods) {
      for (const double share : {0.4, 1.0}) {
        CAPTURE(shape.str());
        CAPTURE(neighbours);
        const std::vector<uint8_t> values = random_labels(shape, share, 4, seed++);
        Tensor labels = mask_tensor(shape, values);
        kernels::largest_component_per_class(labels, 4, neighbours, labels);  // in place
        CHECK(bytes_of(labels) == brute_force_largest(shape, values, axes));
      }
    }
  }
}

TEST_CASE("components: values beyond the classes are dropped, other non-zero values are object") {
  const Shape shape{1, 1, 1, 1, 6};
  const Tensor in = mask_tensor(shape, {3, 3, 0, 1, 5, 5});
  Tensor out = Tensor::empty(shape, DType::u8, Device{});
  kernels::largest_component_per_class(in, 4, 6, out);
  CHECK(bytes_of(out) == std::vector<uint8_t>{3, 3, 0, 1, 0, 0});
  kernels::largest_component(in, 6, out);
  CHECK(bytes_of(out) == std::vector<uint8_t>{0, 0, 0, 1, 5, 5});
}

TEST_CASE("components: ties go to the first component, empty stays empty, one voxel stays") {
  const Shape shape{3, 1, 1, 2, 5};
  const Tensor in = mask_tensor(shape, {1, 1, 0, 1, 1, 0, 0, 0, 0, 0,    // two of two voxels
                                        0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    // nothing
                                        0, 0, 0, 0, 0, 0, 0, 0, 0, 1});  // one voxel
  Tensor out = Tensor::empty(shape, DType::u8, Device{});
  kernels::largest_component(in, 6, out);
  CHECK(bytes_of(out) == std::vector<uint8_t>{1, 1, 0, 0, 0, 0, 0, 0, 0, 0,  //
                                              0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  //
                                              0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
}

TEST_CASE("components: 4 and 8 neighbours in 2D only") {
  const Shape shape{1, 1, 1, 2, 3};
  const Tensor in = mask_tensor(shape, {1, 0, 1,  //
                                        0, 1, 1});
  Tensor out = Tensor::empty(shape, DType::u8, Device{});
  kernels::largest_component(in, 4, out);
  CHECK(bytes_of(out) == std::vector<uint8_t>{0, 0, 1, 0, 1, 1});
  kernels::largest_component(in, 8, out);
  CHECK(bytes_of(out) == bytes_of(in));
  CHECK_THROWS_AS(kernels::largest_component(in, 5, out), UsageError);
  const Tensor volume = in.reshaped({1, 1, 2, 1, 3});
  Tensor volume_out = Tensor::empty(volume.shape(), DType::u8, Device{});
  CHECK_THROWS_AS(kernels::largest_component(volume, 8, volume_out), UsageError);
}

TEST_CASE("components: the same result with 1 and 4 threads") {
  // More than one block of rows for the CPU driver, and components that cross the blocks' borders.
  const Shape shape{2, 1, 100, 100, 24};
  const Tensor in = mask_tensor(shape, random_labels(shape, 0.3, 2, 7));
  Tensor one = Tensor::empty(shape, DType::i32, Device{});
  Tensor four = Tensor::empty(shape, DType::i32, Device{});
  const int threads = thread_count();
  set_thread_count(1);
  kernels::label_components(in, 6, one);
  set_thread_count(4);
  kernels::label_components(in, 6, four);
  set_thread_count(threads);
  CHECK(one.to_doubles() == four.to_doubles());
  const std::vector<int> expected = flood_fill(shape, bytes_of(in), 1);
  CHECK(std::vector<int>(one.data<int32_t>(), one.data<int32_t>() + one.elements()) == expected);
}

TEST_CASE("components: CUDA equals the CPU") {
  if (cuda_device_count() == 0) {
    MESSAGE("skipped: " << cuda_unavailable_reason());
    return;
  }
  const Device gpu{DeviceKind::cuda, 0};
  uint64_t seed = 500;
  for (const Shape& shape : {Shape{2, 1, 60, 50, 40}, Shape{3, 1, 1, 70, 33}}) {
    for (const auto& [neighbours, axes] : kNeighbourhoods) {
      for (const double share : {0.2, 0.35, 0.6}) {
        CAPTURE(shape.str());
        CAPTURE(neighbours);
        const Tensor in = mask_tensor(shape, random_labels(shape, share, 3, seed++));
        const Tensor in_gpu = in.to(gpu);
        Tensor numbers = Tensor::empty(shape, DType::i32, Device{});
        Tensor numbers_gpu = Tensor::empty(shape, DType::i32, gpu);
        kernels::label_components(in, neighbours, numbers);
        kernels::label_components(in_gpu, neighbours, numbers_gpu);
        CHECK(numbers_gpu.to_doubles() == numbers.to_doubles());
        Tensor out = Tensor::empty(shape, DType::u8, Device{});
        Tensor out_gpu = Tensor::empty(shape, DType::u8, gpu);
        kernels::largest_component(in, neighbours, out);
        kernels::largest_component(in_gpu, neighbours, out_gpu);
        CHECK(out_gpu.to_doubles() == out.to_doubles());
        kernels::largest_component_per_class(in, 3, neighbours, out);
        kernels::largest_component_per_class(in_gpu, 3, neighbours, out_gpu);
        CHECK(out_gpu.to_doubles() == out.to_doubles());
      }
    }
  }
}
