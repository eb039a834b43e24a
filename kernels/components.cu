// Union-find over runs. A run is a maximal piece of a row (along W) of one class; runs are far fewer than
// voxels. Run k of row r has the slot r * W + k, so slots are in C order of the runs' first voxels. A root is
// the smallest slot of its component, whatever the order in which threads merge: that makes the result
// deterministic.

#include "kernels/components.hpp"

#include <limits>

#include "engine/hd.hpp"
#include "engine/launch.hpp"
#include "kernels/atomics.hpp"

namespace semivox::kernels {
namespace {

/// The runs of all rows of a batch, and the forest over them.
struct Runs {
  const uint8_t* labels;  // (N, D, H, W)
  int64_t depth, height, width;
  int classes;  // 1 ... classes-1 are objects; 0: all non-zero values are one class, 1

  int32_t* count;   // (N, D, H) runs in the row
  int32_t* begin;   // (N, D, H, W) by slot: first voxel of the run in its row
  int32_t* end;     // by slot: one past its last voxel
  int32_t* parent;  // by slot: a slot of the same component, not larger
  int32_t* size;    // by slot: voxels of the component, at roots

  SEMIVOX_HD int class_of(uint8_t value) const {
    return classes == 0 ? value != 0 : value < classes ? value : 0;
  }
  SEMIVOX_HD int class_at(int64_t row, int64_t slot) const {
    return class_of(labels[row * width + begin[slot]]);
  }
  SEMIVOX_HD int64_t sample_of(int64_t row) const { return row / (depth * height); }

  SEMIVOX_HD int32_t root(int32_t slot) const {
    for (int32_t up = atomic_load(parent + slot); up != slot; up = atomic_load(parent + slot)) slot = up;
    return slot;
  }

  /// Joins two trees. If another thread hangs `a` elsewhere in between, its new parent is joined with `b`
  /// next.
  SEMIVOX_HD void merge(int32_t a, int32_t b) const {
    while (true) {
      a = root(a);
      b = root(b);
      if (a == b) return;
      const int32_t low = a < b ? a : b, high = a < b ? b : a;
      const int32_t old = atomic_min(parent + high, low);
      if (old == high) return;
      a = old;
      b = low;
    }
  }
};

/// Finds the runs of a row; each is its own tree.
struct FindRuns {
  Runs runs;
  SEMIVOX_HD void operator()(int64_t row) const {
    const uint8_t* line = runs.labels + row * runs.width;
    int64_t slot = row * runs.width;
    int previous = 0;
    for (int64_t w = 0; w < runs.width; ++w) {
      const int now = runs.class_of(line[w]);
      if (now == previous) continue;
      if (previous != 0) runs.end[slot++] = static_cast<int32_t>(w);
      if (now != 0) {
        runs.begin[slot] = static_cast<int32_t>(w);
        runs.parent[slot] = static_cast<int32_t>(slot);
        runs.size[slot] = 0;
      }
      previous = now;
    }
    if (previous != 0) runs.end[slot++] = static_cast<int32_t>(runs.width);
    runs.count[row] = static_cast<int32_t>(slot - row * runs.width);
  }
};

/// Merges the runs of a row with those that they touch in the neighbouring rows before it.
struct MergeRows {
  Runs runs;
  int axes;  // by how many axes touching voxels may differ: 1, 2, 3 for 6, 18, 26 neighbours
  SEMIVOX_HD void operator()(int64_t row) const {
    const int64_t h = row % runs.height, d = row / runs.height % runs.depth;
    const bool above = d > 0, left = h > 0, right = h + 1 < runs.height;
    if (left) merge_rows(row, row - 1, 1);
    if (above) merge_rows(row, row - runs.height, 1);
    if (above && left) merge_rows(row, row - runs.height - 1, 2);
    if (above && right) merge_rows(row, row - runs.height + 1, 2);
  }

  /// `used`: by how many axes the rows themselves differ.
  SEMIVOX_HD void merge_rows(int64_t row, int64_t other, int used) const {
    if (used > axes) return;
    const int reach = used < axes ? 1 : 0;  // along W
    const int64_t last = row * runs.width + runs.count[row];
    const int64_t other_last = other * runs.width + runs.count[other];
    int64_t first = other * runs.width;
    for (int64_t a = row * runs.width; a < last; ++a) {
      while (first < other_last && runs.end[first] + reach <= runs.begin[a]) ++first;
      for (int64_t b = first; b < other_last && runs.begin[b] < runs.end[a] + reach; ++b) {
        if (runs.class_at(row, a) == runs.class_at(other, b)) {
          runs.merge(static_cast<int32_t>(a), static_cast<int32_t>(b));
        }
      }
    }
  }
};

/// Hangs every run directly below its root and adds up the sizes there.
struct MeasureComponents {
  Runs runs;
  SEMIVOX_HD void operator()(int64_t row) const {
    const int64_t first = row * runs.width, last = first + runs.count[row];
    for (int64_t slot = first; slot < last; ++slot) {
      const int32_t root = runs.root(static_cast<int32_t>(slot));
      atomic_min(runs.parent + slot, root);
      atomic_add(runs.size + root, runs.end[slot] - runs.begin[slot]);
    }
  }
};

/// The largest component of each sample and class: its size, and then its root, the first one of that size.
struct Largest {
  int32_t* size;  // (N, classes)
  int32_t* root;  // (N, classes)
  int64_t classes;
};

struct ResetLargest {
  Largest largest;
  SEMIVOX_HD void operator()(int64_t i) const {
    largest.size[i] = 0;
    largest.root[i] = INT32_MAX;
  }
};

struct FindLargestSize {
  Runs runs;
  Largest largest;
  SEMIVOX_HD void operator()(int64_t row) const {
    const int64_t first = row * runs.width, last = first + runs.count[row];
    for (int64_t slot = first; slot < last; ++slot) {
      if (runs.parent[slot] != slot) continue;
      const int64_t which = runs.sample_of(row) * largest.classes + runs.class_at(row, slot);
      atomic_max(largest.size + which, runs.size[slot]);
    }
  }
};

struct FindLargestRoot {
  Runs runs;
  Largest largest;
  SEMIVOX_HD void operator()(int64_t row) const {
    const int64_t first = row * runs.width, last = first + runs.count[row];
    for (int64_t slot = first; slot < last; ++slot) {
      if (runs.parent[slot] != slot) continue;
      const int64_t which = runs.sample_of(row) * largest.classes + runs.class_at(row, slot);
      if (runs.size[slot] == largest.size[which])
        atomic_min(largest.root + which, static_cast<int32_t>(slot));
    }
  }
};

/// Copies the runs of the largest components of a row and zeroes the rest; input and output may be one array.
struct SelectLargest {
  Runs runs;
  Largest largest;
  uint8_t* out;  // (N, D, H, W)
  SEMIVOX_HD void operator()(int64_t row) const {
    const uint8_t* line = runs.labels + row * runs.width;
    uint8_t* out_line = out + row * runs.width;
    const int64_t first = row * runs.width, last = first + runs.count[row];
    int64_t w = 0;
    for (int64_t slot = first; slot < last; ++slot) {
      const int64_t which = runs.sample_of(row) * largest.classes + runs.class_at(row, slot);
      const bool keep = runs.parent[slot] == largest.root[which];
      for (; w < runs.begin[slot]; ++w) out_line[w] = 0;
      for (; w < runs.end[slot]; ++w) out_line[w] = keep ? line[w] : 0;
    }
    for (; w < runs.width; ++w) out_line[w] = 0;
  }
};

/// Numbers the roots of a sample in slot order; the numbers replace the sizes.
struct NumberComponents {
  Runs runs;
  SEMIVOX_HD void operator()(int64_t sample) const {
    const int64_t rows = runs.depth * runs.height;
    int32_t number = 0;
    for (int64_t row = sample * rows; row < (sample + 1) * rows; ++row) {
      const int64_t first = row * runs.width, last = first + runs.count[row];
      for (int64_t slot = first; slot < last; ++slot) {
        if (runs.parent[slot] == slot) runs.size[slot] = ++number;
      }
    }
  }
};

struct WriteNumbers {
  Runs runs;
  int32_t* out;  // (N, D, H, W)
  SEMIVOX_HD void operator()(int64_t row) const {
    int32_t* out_line = out + row * runs.width;
    const int64_t first = row * runs.width, last = first + runs.count[row];
    for (int64_t w = 0; w < runs.width; ++w) out_line[w] = 0;
    for (int64_t slot = first; slot < last; ++slot) {
      for (int64_t w = runs.begin[slot]; w < runs.end[slot]; ++w) out_line[w] = runs.size[runs.parent[slot]];
    }
  }
};

/// By how many axes touching voxels may differ.
int touching_axes(int neighbours, const Shape& shape) {
  if (neighbours == 6 || (neighbours == 4 && shape.d == 1)) return 1;
  if (neighbours == 18) return 2;
  if (neighbours == 26 || (neighbours == 8 && shape.d == 1)) return 3;
  throw UsageError(text("neighbours = ", neighbours,
                        ": expected 6, 18 or 26 (4 or 8 for 2D images), for a mask of shape ", shape.str()));
}

/// Runs and forest of a batch, with the workspace that they live in.
struct Components {
  Runs runs;
  Tensor count, slots;
  int64_t rows;
};

Components find_components(const Tensor& labels, int classes, int neighbours) {
  const Shape shape = labels.shape();
  SEMIVOX_CHECK(shape.c == 1, "one channel expected, found shape ", shape.str());
  SEMIVOX_CHECK(shape.elements() <= std::numeric_limits<int32_t>::max() / 4,
                "more voxels than 32-bit slots: ", shape.str());
  const int axes = touching_axes(neighbours, shape);
  const Device device = labels.device();
  Components components;
  components.rows = shape.n * shape.d * shape.h;
  components.count = Tensor::empty({1, components.rows, 1, 1, 1}, DType::i32, device, MemoryTag::workspace);
  components.slots = Tensor::empty({4, shape.elements(), 1, 1, 1}, DType::i32, device, MemoryTag::workspace);
  int32_t* slots = components.slots.data<int32_t>();  // begin, end, parent, size
  const int64_t n = shape.elements();
  components.runs = {labels.data<uint8_t>(),           shape.d, shape.h,   shape.w,       classes,
                     components.count.data<int32_t>(), slots,   slots + n, slots + 2 * n, slots + 3 * n};
  map(device, "components_find_runs", components.rows, FindRuns{components.runs});
  map(device, "components_merge", components.rows, MergeRows{components.runs, axes});
  map(device, "components_measure", components.rows, MeasureComponents{components.runs});
  return components;
}

void keep_largest(const Tensor& in, int classes, int neighbours, Tensor& out) {
  SEMIVOX_CHECK(in.shape() == out.shape() && in.device() == out.device(), "input ", in.shape().str(),
                ", output ", out.shape().str());
  uint8_t* result = out.data<uint8_t>();
  const Components components = find_components(in, classes, neighbours);
  const Device device = in.device();
  const int64_t width = classes == 0 ? 2 : classes;
  const int64_t entries = in.shape().n * width;
  const Tensor best = Tensor::empty({2, entries, 1, 1, 1}, DType::i32, device, MemoryTag::workspace);
  const Largest largest{best.data<int32_t>(), best.data<int32_t>() + entries, width};
  map(device, "components_reset", entries, ResetLargest{largest});
  map(device, "components_largest_size", components.rows, FindLargestSize{components.runs, largest});
  map(device, "components_largest_root", components.rows, FindLargestRoot{components.runs, largest});
  map(device, "components_select", components.rows, SelectLargest{components.runs, largest, result});
}

}  // namespace

void largest_component(const Tensor& mask_in, int neighbours, Tensor& mask_out) {
  keep_largest(mask_in, 0, neighbours, mask_out);
}

void largest_component_per_class(const Tensor& labels_in, int classes, int neighbours, Tensor& labels_out) {
  SEMIVOX_CHECK(classes >= 2, "classes = ", classes, ": background and at least one more expected");
  keep_largest(labels_in, classes, neighbours, labels_out);
}

void label_components(const Tensor& mask, int neighbours, Tensor& labels) {
  SEMIVOX_CHECK(mask.shape() == labels.shape() && mask.device() == labels.device(), "mask ",
                mask.shape().str(), ", labels ", labels.shape().str());
  int32_t* numbers = labels.data<int32_t>();
  const Components components = find_components(mask, 0, neighbours);
  map(mask.device(), "components_number", mask.shape().n, NumberComponents{components.runs});
  map(mask.device(), "components_write", components.rows, WriteNumbers{components.runs, numbers});
}

}  // namespace semivox::kernels
