#include "kernels/intensity.hpp"

#include "engine/launch.hpp"

namespace semivox::kernels {

namespace {

struct AddValues {
  const float* x;  // (N, elements)
  int64_t elements;
  SEMIVOX_HD void operator()(int64_t sample, int64_t i, double* sums) const {
    sums[0] += x[sample * elements + i];
  }
};

/// Work item `i` is four elements of a sample: one Philox block makes four normal numbers.
struct ChangeIntensity {
  const float* x;                  // (N, elements)
  float* out;                      // (N, elements)
  const double* sums;              // (N)
  const IntensityChange* changes;  // (N)
  int64_t elements, quads;         // quads: work items per sample
  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t sample = i / quads, quad = i % quads;
    const IntensityChange change = changes[sample];
    const double mean = change.contrast * sums[sample] / static_cast<double>(elements);
    const float shift = change.brightness * static_cast<float>(mean);
    float normal[4] = {0, 0, 0, 0};
    if (change.noise > 0) change.random.normals(static_cast<uint64_t>(quad), normal);
    const int64_t begin = sample * elements, left = elements - 4 * quad;
    for (int k = 0; k < 4 && k < left; ++k) {
      const int64_t at = begin + 4 * quad + k;
      out[at] = (change.contrast * x[at] + shift) + change.noise * normal[k];
    }
  }
};

}  // namespace

Tensor change_intensity(const Tensor& x, const std::vector<IntensityChange>& changes) {
  SEMIVOX_CHECK(static_cast<int64_t>(changes.size()) == x.shape().n, changes.size(), " changes for ",
                x.shape().str());
  return change_intensity(x, [changes](int64_t sample) { return changes[static_cast<size_t>(sample)]; });
}

Tensor change_intensity(const Tensor& x, const std::function<IntensityChange(int64_t sample)>& draw) {
  const Shape shape = x.shape();
  const Device device = x.device();
  const int64_t elements = shape.c * shape.voxels(), quads = (elements + 3) / 4, samples = shape.n;
  const Tensor table =
      step_table<IntensityChange>(device, samples, [draw, samples](IntensityChange* changes) {
        for (int64_t i = 0; i < samples; ++i) changes[i] = draw(i);
      });
  const Tensor sums = Tensor::empty({shape.n, 1, 1, 1, 1}, DType::f64, device, MemoryTag::workspace);
  Tensor out = Tensor::empty(shape, DType::f32, device);
  sum_samples<1>(device, "intensity.sum", shape.n, elements, AddValues{x.data<float>(), elements},
                 sums.data<double>());
  map(device, "intensity.change", shape.n * quads,
      ChangeIntensity{x.data<float>(), out.data<float>(), sums.data<double>(),
                      static_cast<const IntensityChange*>(table.raw()), elements, quads});
  return out;
}

}  // namespace semivox::kernels
