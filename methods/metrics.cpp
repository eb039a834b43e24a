#include "methods/metrics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "engine/parallel.hpp"
#include "engine/tensor.hpp"
#include "kernels/distance.hpp"

namespace semivox {
namespace {

using io::Extent3;

/// Voxels first ... last along each axis, both inclusive; first > last while nothing was added.
struct Box {
  Extent3 first{std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::max(),
                std::numeric_limits<int64_t>::max()};
  Extent3 last{-1, -1, -1};

  void add(const Box& other) {
    for (int a = 0; a < 3; ++a) {
      first[a] = std::min(first[a], other.first[a]);
      last[a] = std::max(last[a], other.last[a]);
    }
  }
};

/// Both label arrays, and which label counts as object.
struct Pair {
  std::array<const uint8_t*, 2> labels;  // prediction, reference; each (shape)
  Extent3 shape;
  uint8_t label;

  int64_t index(int64_t i, int64_t j, int64_t k) const { return (i * shape[1] + j) * shape[2] + k; }
};

/// Counts the voxels of slice i of axis 0 and adds the objects of both arrays to the box.
void scan_slice(const Pair& pair, int64_t i, VoxelCounts& counts, Box& box) {
  for (int64_t j = 0; j < pair.shape[1]; ++j) {
    const uint8_t* p = pair.labels[0] + pair.index(i, j, 0);
    const uint8_t* g = pair.labels[1] + pair.index(i, j, 0);
    int32_t both = 0, predicted = 0, expected = 0;
    for (int64_t k = 0; k < pair.shape[2]; ++k) {
      predicted += p[k] == pair.label;
      expected += g[k] == pair.label;
      both += (p[k] == pair.label) & (g[k] == pair.label);
    }
    counts.true_positive += both;
    counts.false_positive += predicted - both;
    counts.false_negative += expected - both;
    if (predicted + expected == 0) continue;
    int64_t first = 0, last = pair.shape[2] - 1;
    while (p[first] != pair.label && g[first] != pair.label) ++first;
    while (p[last] != pair.label && g[last] != pair.label) --last;
    box.add({{i, j, first}, {i, j, last}});
  }
}

/// The surfaces inside the box, as a batch of two masks: (2, 1, box), prediction first. The erosion looks at
/// the whole array.
Tensor surfaces_of(const Pair& pair, const Box& box) {
  const Shape shape{2, 1, box.last[0] - box.first[0] + 1, box.last[1] - box.first[1] + 1,
                    box.last[2] - box.first[2] + 1};
  Tensor surfaces = Tensor::empty(shape, DType::u8, Device{}, MemoryTag::workspace);
  const int64_t stride_i = pair.shape[1] * pair.shape[2], stride_j = pair.shape[2];
  parallel_blocks(2 * shape.d, 8, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin * shape.h; row < end * shape.h; ++row) {
      const uint8_t* labels = pair.labels[row / (shape.d * shape.h)];
      const int64_t i = box.first[0] + row / shape.h % shape.d;
      const int64_t j = box.first[1] + row % shape.h;
      const bool border_row = i == 0 || i == pair.shape[0] - 1 || j == 0 || j == pair.shape[1] - 1;
      uint8_t* out = surfaces.data<uint8_t>() + row * shape.w;
      for (int64_t w = 0; w < shape.w; ++w) {
        const int64_t k = box.first[2] + w;
        const uint8_t* v = labels + pair.index(i, j, k);
        const bool object = *v == pair.label;
        const bool inside = object && !border_row && k > 0 && k < pair.shape[2] - 1 && v[-1] == pair.label &&
                            v[1] == pair.label && v[-stride_j] == pair.label && v[stride_j] == pair.label &&
                            v[-stride_i] == pair.label && v[stride_i] == pair.label;
        out[w] = object && !inside;
      }
    }
  });
  return surfaces;
}

/// Distances of the surface voxels of one mask of the batch to the surface of the other, in C order.
std::vector<double> surface_distances(const Tensor& surfaces, const Tensor& squared, int from) {
  const int64_t voxels = surfaces.shape().voxels();
  const uint8_t* surface = surfaces.data<uint8_t>() + from * voxels;
  const double* to_other = squared.data<double>() + (1 - from) * voxels;
  std::vector<double> distances;
  for (int64_t v = 0; v < voxels; ++v) {
    if (surface[v] != 0) distances.push_back(std::sqrt(to_other[v]));
  }
  return distances;
}

/// NumPy's percentile with linear interpolation; reorders the values.
double percentile(std::vector<double>& values, double share) {
  const double position = share * static_cast<double>(values.size() - 1);
  const auto low = values.begin() + static_cast<int64_t>(position);
  std::nth_element(values.begin(), low, values.end());
  if (low + 1 == values.end()) return *low;
  const double next = *std::min_element(low + 1, values.end());
  return *low + (position - std::floor(position)) * (next - *low);
}

double distance_of_empty(EmptyPolicy empty, const Extent3& shape, const std::array<double, 3>& spacing) {
  switch (empty) {
    case EmptyPolicy::zero:
      return 0;
    case EmptyPolicy::nan:
      return std::numeric_limits<double>::quiet_NaN();
    case EmptyPolicy::diagonal:
      break;
  }
  double squared = 0;
  for (int a = 0; a < 3; ++a) squared += std::pow(static_cast<double>(shape[a]) * spacing[a], 2);
  return std::sqrt(squared);
}

}  // namespace

Scores segmentation_scores(const uint8_t* prediction, const uint8_t* reference, const Extent3& shape,
                           uint8_t label, const std::array<double, 3>& spacing, EmptyPolicy empty) {
  const Pair pair{{prediction, reference}, shape, label};
  std::vector<VoxelCounts> counts(shape[0]);
  std::vector<Box> boxes(shape[0]);
  parallel_blocks(shape[0], 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) scan_slice(pair, i, counts[i], boxes[i]);
  });
  Scores scores;
  Box box;
  for (int64_t i = 0; i < shape[0]; ++i) {
    scores.counts.true_positive += counts[i].true_positive;
    scores.counts.false_positive += counts[i].false_positive;
    scores.counts.false_negative += counts[i].false_negative;
    box.add(boxes[i]);
  }
  const int64_t both = scores.counts.true_positive;
  const int64_t predicted = both + scores.counts.false_positive,
                expected = both + scores.counts.false_negative;
  const int64_t either = predicted + expected - both;
  scores.counts.true_negative = io::voxel_count(shape) - either;
  if (either == 0) {
    scores.dice = scores.jaccard = 1;
    return scores;
  }
  scores.dice = 2.0 * static_cast<double>(both) / static_cast<double>(predicted + expected);
  scores.jaccard = static_cast<double>(both) / static_cast<double>(either);
  if (predicted == 0 || expected == 0) {
    scores.hd95 = scores.asd = distance_of_empty(empty, shape, spacing);
    return scores;
  }
  // Distances are asked for at surface voxels only, and the nearest surface voxel is a surface voxel too; the
  // box holds all of both surfaces. So the transform of the box alone gives the same values as that of the
  // whole array.
  const Tensor surfaces = surfaces_of(pair, box);
  Tensor squared = Tensor::empty(surfaces.shape(), DType::f64, Device{}, MemoryTag::workspace);
  kernels::squared_distance(surfaces, spacing, squared);
  std::vector<double> distances = surface_distances(surfaces, squared, 0);
  scores.asd =
      std::accumulate(distances.begin(), distances.end(), 0.0) / static_cast<double>(distances.size());
  const std::vector<double> reverse = surface_distances(surfaces, squared, 1);
  distances.insert(distances.end(), reverse.begin(), reverse.end());
  scores.hd95 = percentile(distances, 0.95);
  return scores;
}

}  // namespace semivox
