#include "kernels/grid_distortion.hpp"

#include <algorithm>
#include <cmath>

#include "engine/launch.hpp"

namespace semivox::kernels {

namespace {

struct GatherDistorted {
  GatherSample scan;
  const float* source;  // (D + H + W) coordinates of the patch's axes, one after the other
  float* image;         // (D, H, W, C)
  uint8_t* label;       // (D, H, W) or null
  int64_t channels, height, width;
  int64_t size[3];   // of the scan
  int64_t first[3];  // of an axis in `source`

  template <class T>
  SEMIVOX_HD float value(int64_t voxel, int64_t c) const {
    const auto stored = static_cast<float>(static_cast<const T*>(scan.image)[voxel * channels + c]);
    return fmaf(scan.slope, stored, scan.intercept);
  }

  template <class T>
  SEMIVOX_HD void interpolate(const int64_t (&low)[3], const int64_t (&high)[3], const float (&t)[3],
                              float* out) const {
    for (int64_t c = 0; c < channels; ++c) {
      float plane[2] = {0, 0};
      for (int i = 0; i < 2; ++i) {
        float row[2] = {0, 0};
        for (int j = 0; j < 2; ++j) {
          const int64_t begin = ((i ? high : low)[0] * size[1] + (j ? high : low)[1]) * size[2];
          const float left = value<T>(begin + low[2], c), right = value<T>(begin + high[2], c);
          row[j] = left + t[2] * (right - left);
        }
        plane[i] = row[0] + t[1] * (row[1] - row[0]);
      }
      out[c] = plane[0] + t[0] * (plane[1] - plane[0]);
    }
  }

  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t at[3] = {i / (height * width), i / width % height, i % width};
    int64_t low[3], high[3], nearest[3];
    float t[3];
    bool inside = true;
    for (int a = 0; a < 3; ++a) {
      const float wanted = source[first[a] + at[a]];
      inside = inside && wanted >= 0;
      const auto last = static_cast<float>(size[a] - 1);
      const float x = wanted < 0 ? 0.0f : (wanted > last ? last : wanted);
      low[a] = static_cast<int64_t>(floorf(x));
      high[a] = low[a] + 1 < size[a] ? low[a] + 1 : low[a];
      t[a] = x - static_cast<float>(low[a]);
      nearest[a] = static_cast<int64_t>(rintf(x));
    }
    float* out = image + i * channels;
    if (label != nullptr) {
      const int64_t voxel = (nearest[0] * size[1] + nearest[1]) * size[2] + nearest[2];
      label[i] = inside && scan.label != nullptr ? scan.label[voxel] : 0;
    }
    if (!inside) {
      for (int64_t c = 0; c < channels; ++c) out[c] = 0;
      return;
    }
    switch (scan.dtype) {
      case DType::u8:
        interpolate<uint8_t>(low, high, t, out);
        break;
      case DType::i16:
        interpolate<int16_t>(low, high, t, out);
        break;
      default:
        interpolate<float>(low, high, t, out);
        break;
    }
  }
};

}  // namespace

std::vector<float> distorted_axis(int64_t size, const std::vector<double>& factors) {
  std::vector<float> source(static_cast<size_t>(size));
  const int64_t cells = static_cast<int64_t>(factors.size()) - 1, cell = size / cells;
  for (int64_t i = 0; i < size; ++i) source[static_cast<size_t>(i)] = static_cast<float>(i);
  if (cell == 0) return source;
  double previous = 0;
  for (int64_t k = 0; k <= cells; ++k) {
    const int64_t begin = k * cell, end = std::min(begin + cell, size);
    const bool cut = begin + cell > size;
    const double next = cut ? static_cast<double>(size)
                            : previous + static_cast<double>(cell) * factors[static_cast<size_t>(k)];
    for (int64_t i = begin; i < end; ++i) {
      const double part =
          end - begin > 1 ? static_cast<double>(i - begin) / static_cast<double>(end - begin - 1) : 0;
      source[static_cast<size_t>(i)] = static_cast<float>(previous + part * (next - previous));
    }
    previous = next;
  }
  return source;
}

std::array<std::vector<float>, 3> draw_grid_distortion(const std::array<int64_t, 3>& size, int64_t cells,
                                                       double limit, const RandomStream& random,
                                                       uint64_t first) {
  std::array<std::vector<float>, 3> source;
  uint64_t draw = first;
  for (size_t a = 0; a < 3; ++a) {
    std::vector<double> factors;
    for (int64_t k = 0; k <= cells; ++k) factors.push_back(1 + limit * (2.0 * random.uniform(draw++) - 1));
    source[a] = distorted_axis(size[a], factors);
  }
  return source;
}

void gather_distorted(const DistortedPatch& patch, const Tensor& image, const Tensor& label) {
  const Shape shape = image.shape();
  SEMIVOX_CHECK(shape.n == 1 && (!label.defined() || label.shape() == shape.with_channels(1)), shape.str());
  const int64_t wanted[3] = {shape.d, shape.h, shape.w};
  std::vector<float> coordinates;
  GatherDistorted gather{patch.scan,
                         nullptr,
                         image.data<float>(),
                         label.defined() ? label.data<uint8_t>() : nullptr,
                         shape.c,
                         shape.h,
                         shape.w,
                         {},
                         {}};
  for (size_t a = 0; a < 3; ++a) {
    SEMIVOX_CHECK(static_cast<int64_t>(patch.source[a].size()) == wanted[a], patch.source[a].size(),
                  " coordinates on axis ", a, " of ", shape.str());
    gather.size[a] = patch.size[a];
    gather.first[a] = static_cast<int64_t>(coordinates.size());
    coordinates.insert(coordinates.end(), patch.source[a].begin(), patch.source[a].end());
  }
  const Device device = image.device();
  const Tensor table = Tensor::empty({1, static_cast<int64_t>(coordinates.size()), 1, 1, 1}, DType::f32,
                                     device, MemoryTag::workspace);
  copy_bytes(table.raw(), device, coordinates.data(), Device{}, coordinates.size() * sizeof(float));
  gather.source = table.data<float>();
  map(device, "gather_distorted", shape.voxels(), gather);
}

}  // namespace semivox::kernels
