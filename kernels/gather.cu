#include <cmath>

#include "engine/launch.hpp"
#include "kernels/gather.hpp"

namespace semivox::kernels {
namespace {

/// Work item `i` is lane i % lanes of output row i / lanes: one lane per row on the CPU, so that a row is one
/// loop over memory; on the GPU neighbouring lanes read and write neighbouring voxels.
struct Gather {
  const GatherSample* samples;  // (N)
  float* image;                 // (N, D, H, W, C)
  uint8_t* label;               // (N, D, H, W) or null
  int64_t channels, depth, height, width, lanes;

  /// On the CPU most rows are rows of the source, too: loops without conditions and strides become vectors.
  SEMIVOX_HD bool whole_rows(const IndexMap& map) const { return lanes == 1 && map.stride[2] == 1; }

  template <class T>
  SEMIVOX_HD void copy_image(const GatherSample& sample, int64_t first, int64_t lane, float* out) const {
    const auto* source = static_cast<const T*>(sample.image);
    // Copies, because the compiler must assume that `out` overlaps the table of samples.
    const float slope = sample.slope, intercept = sample.intercept;
    const int64_t begin = sample.map.begin[2], end = sample.map.end[2],
                  stride = sample.map.stride[2] * channels;
    if (whole_rows(sample.map)) {
      const T* from = source + first * channels;
      for (int64_t j = 0; j < begin * channels; ++j) out[j] = 0;
      for (int64_t j = begin * channels; j < end * channels; ++j) {
        out[j] = fmaf(slope, static_cast<float>(from[j]), intercept);
      }
      for (int64_t j = end * channels; j < width * channels; ++j) out[j] = 0;
      return;
    }
    for (int64_t w = lane; w < width; w += lanes) {
      const bool inside = w >= begin && w < end;
      const int64_t voxel = first * channels + w * stride;
      for (int64_t c = 0; c < channels; ++c) {
        out[w * channels + c] = inside ? fmaf(slope, static_cast<float>(source[voxel + c]), intercept) : 0.0f;
      }
    }
  }

  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t row = i / lanes, lane = i % lanes;
    const int64_t h = row % height, d = row / height % depth;
    const GatherSample& sample = samples[row / height / depth];
    const IndexMap& map = sample.map;
    float* image_row = image + row * width * channels;
    uint8_t* label_row = label ? label + row * width : nullptr;
    if (d < map.begin[0] || d >= map.end[0] || h < map.begin[1] || h >= map.end[1]) {
      for (int64_t w = lane; w < width; w += lanes) {
        for (int64_t c = 0; c < channels; ++c) image_row[w * channels + c] = 0.0f;
        if (label_row) label_row[w] = 0;
      }
      return;
    }
    const int64_t first = map.origin + d * map.stride[0] + h * map.stride[1];  // source voxel of w = 0
    switch (sample.dtype) {
      case DType::u8:
        copy_image<uint8_t>(sample, first, lane, image_row);
        break;
      case DType::i16:
        copy_image<int16_t>(sample, first, lane, image_row);
        break;
      default:
        copy_image<float>(sample, first, lane, image_row);
        break;
    }
    if (label_row) copy_label(sample, first, lane, label_row);
  }

  SEMIVOX_HD void copy_label(const GatherSample& sample, int64_t first, int64_t lane, uint8_t* out) const {
    const IndexMap& map = sample.map;
    const int64_t begin = map.begin[2], end = map.end[2];
    const uint8_t* source = sample.label;
    if (source && whole_rows(map)) {
      for (int64_t w = 0; w < begin; ++w) out[w] = 0;
      for (int64_t w = begin; w < end; ++w) out[w] = source[first + w];
      for (int64_t w = end; w < width; ++w) out[w] = 0;
      return;
    }
    for (int64_t w = lane; w < width; w += lanes) {
      const bool inside = source && w >= begin && w < end;
      out[w] = inside ? source[first + w * map.stride[2]] : 0;
    }
  }
};

}  // namespace

void gather(const std::vector<GatherSample>& samples, const Tensor& image, const Tensor& label) {
  const Shape& shape = image.shape();
  SEMIVOX_CHECK(static_cast<int64_t>(samples.size()) == shape.n, samples.size(), " samples for ",
                shape.str());
  SEMIVOX_CHECK(!label.defined() || label.shape() == shape.with_channels(1), label.shape().str(), " for ",
                shape.str());
  for (const GatherSample& sample : samples) {
    SEMIVOX_CHECK(sample.dtype == DType::u8 || sample.dtype == DType::i16 || sample.dtype == DType::f32,
                  name_of(sample.dtype));
  }
  const Device device = image.device();
  const auto bytes = static_cast<int64_t>(samples.size() * sizeof(GatherSample));
  const Tensor table = Tensor::empty({1, bytes, 1, 1, 1}, DType::u8, device, MemoryTag::workspace);
  copy_bytes(table.raw(), device, samples.data(), Device{}, samples.size() * sizeof(GatherSample));
  const int64_t lanes = device.is_cuda() ? 32 : 1;
  map(device, "gather", shape.n * shape.d * shape.h * lanes,
      Gather{static_cast<const GatherSample*>(table.raw()), image.data<float>(),
             label.defined() ? label.data<uint8_t>() : nullptr, shape.c, shape.d, shape.h, shape.w, lanes});
}

}  // namespace semivox::kernels
