#include "kernels/signed_distance.hpp"

#include <cmath>

#include "engine/hd.hpp"
#include "engine/launch.hpp"
#include "kernels/distance.hpp"

namespace semivox::kernels {
namespace {

struct Complement {
  const uint8_t* labels;  // (N, D, H, W)
  uint8_t* out;           // likewise
  SEMIVOX_HD void operator()(int64_t i) const { out[i] = labels[i] == 0; }
};

/// out[i] = the largest of the `length` values from i * length on.
struct MaximumOfRuns {
  const float* in;
  float* out;
  int64_t length;
  SEMIVOX_HD void operator()(int64_t i) const {
    float largest = in[i * length];
    for (int64_t k = 1; k < length; ++k) {
      const float value = in[i * length + k];
      if (value > largest) largest = value;
    }
    out[i] = largest;
  }
};

/// Largest value of every sample, (N,1,1,1,1): over rows, then slices, then volumes, so that a GPU has enough
/// threads.
Tensor largest_per_sample(const Tensor& values) {
  const Shape shape = values.shape();
  Tensor reduced = values;
  int64_t count = shape.rows();
  for (const int64_t length : {shape.w, shape.h, shape.d}) {
    count /= length;
    const Tensor next = Tensor::empty({count, 1, 1, 1, 1}, DType::f32, values.device(), MemoryTag::workspace);
    map(values.device(), "signed_distance.maximum", count,
        MaximumOfRuns{reduced.data<float>(), next.data<float>(), length});
    reduced = next;
  }
  return reduced;
}

struct SignedDistance {
  const float* outside;          // (N, V), squared distance to the foreground
  const float* inside;           // (N, V), squared distance to the background
  const float* largest_outside;  // (N)
  const float* largest_inside;   // (N)
  float* out;                    // (N, V)
  int64_t voxels;
  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t sample = i / voxels;
    const double most_outside = largest_outside[sample], most_inside = largest_inside[sample];
    float result = 0;
    if (most_outside < INFINITY && most_inside < INFINITY) {  // else there is only one side
      if (outside[i] > 0) {
        result = static_cast<float>(sqrt(static_cast<double>(outside[i])) / sqrt(most_outside));
      } else if (inside[i] > 1) {
        result = static_cast<float>(-sqrt(static_cast<double>(inside[i])) / sqrt(most_inside));
      }
    }
    out[i] = result;
  }
};

}  // namespace

Tensor signed_distance(const Tensor& labels) {
  const Shape shape = labels.shape();
  const Device device = labels.device();
  SEMIVOX_CHECK(shape.c == 1 && labels.dtype() == DType::u8, "labels ", shape.str());
  SEMIVOX_CHECK(shape.d * shape.d + shape.h * shape.h + shape.w * shape.w < int64_t{1} << 24, "labels ",
                shape.str(), ": squared distances are no exact f32");
  const Tensor complement = Tensor::empty(shape, DType::u8, device, MemoryTag::workspace);
  map(device, "signed_distance.complement", shape.rows(),
      Complement{labels.data<uint8_t>(), complement.data<uint8_t>()});
  Tensor outside = Tensor::empty(shape, DType::f32, device, MemoryTag::workspace);
  Tensor inside = Tensor::empty(shape, DType::f32, device, MemoryTag::workspace);
  squared_distance(labels, {1, 1, 1}, outside);
  squared_distance(complement, {1, 1, 1}, inside);
  const Tensor largest_outside = largest_per_sample(outside), largest_inside = largest_per_sample(inside);
  const Tensor result = Tensor::empty(shape, DType::f32, device);
  map(device, "signed_distance", shape.rows(),
      SignedDistance{outside.data<float>(), inside.data<float>(), largest_outside.data<float>(),
                     largest_inside.data<float>(), result.data<float>(), shape.voxels()});
  return result;
}

}  // namespace semivox::kernels
