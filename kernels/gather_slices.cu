#include "kernels/gather_slices.hpp"

#include <cmath>

#include "engine/launch.hpp"
#include "kernels/table.hpp"

namespace semivox::kernels {
namespace {

/// Work item `i` is output pixel i, of all samples.
struct GatherSlices {
  const SliceSample* samples;  // (N)
  const int32_t* tables;       // (N, h + w)
  float* image;                // (N, h, w, C)
  uint8_t* label;              // (N, h, w) or null
  int64_t channels, height, width;

  template <class T>
  SEMIVOX_HD void copy_pixel(const SliceSample& sample, int64_t pixel, float* out) const {
    const auto* source = static_cast<const T*>(sample.image) + pixel * channels;
    for (int64_t c = 0; c < channels; ++c)
      out[c] = fmaf(sample.slope, static_cast<float>(source[c]), sample.intercept);
  }

  /// The pixel of the slice that (a, b) of the augmented slice shows, -1 for none.
  SEMIVOX_HD static int64_t source_pixel(const SliceSample& sample, int64_t a, int64_t b) {
    if (a < 0 || b < 0) return -1;
    if (sample.rotated) {
      const double p = static_cast<double>(a), q = static_cast<double>(b);
      const double x = sample.offset[0] + sample.cosine * p + sample.sine * q;
      const double y = sample.offset[1] - sample.sine * p + sample.cosine * q;
      if (!(x >= 0 && x <= static_cast<double>(sample.height - 1) && y >= 0 &&
            y <= static_cast<double>(sample.width - 1)))
        return -1;
      a = static_cast<int64_t>(floor(x + 0.5));
      b = static_cast<int64_t>(floor(y + 0.5));
    }
    return sample.origin + a * sample.stride[0] + b * sample.stride[1];
  }

  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t n = i / (height * width), row = i / width % height, column = i % width;
    const SliceSample& sample = samples[n];
    const int32_t* table = tables + n * (height + width);
    const int64_t pixel = source_pixel(sample, table[row], table[height + column]);
    float* out = image + i * channels;
    if (label) label[i] = pixel >= 0 && sample.label ? sample.label[pixel] : 0;
    if (pixel < 0) {
      for (int64_t c = 0; c < channels; ++c) out[c] = 0.0f;
      return;
    }
    switch (sample.dtype) {
      case DType::u8:
        return copy_pixel<uint8_t>(sample, pixel, out);
      case DType::i16:
        return copy_pixel<int16_t>(sample, pixel, out);
      default:
        return copy_pixel<float>(sample, pixel, out);
    }
  }
};

}  // namespace

void gather_slices(const std::vector<SliceSample>& samples, const std::vector<int32_t>& tables,
                   const Tensor& image, const Tensor& label) {
  const Shape& s = image.shape();
  SEMIVOX_CHECK(s.d == 1 && static_cast<int64_t>(samples.size()) == s.n &&
                    static_cast<int64_t>(tables.size()) == s.n * (s.h + s.w),
                samples.size(), " samples and ", tables.size(), " table entries for ", s.str());
  SEMIVOX_CHECK(!label.defined() || label.shape() == s.with_channels(1), label.shape().str(), " for ",
                s.str());
  for (const SliceSample& sample : samples) {
    SEMIVOX_CHECK(sample.dtype == DType::u8 || sample.dtype == DType::i16 || sample.dtype == DType::f32,
                  name_of(sample.dtype));
  }
  const Device device = image.device();
  const auto bytes = static_cast<int64_t>(samples.size() * sizeof(SliceSample));
  const Tensor list = Tensor::empty({1, bytes, 1, 1, 1}, DType::u8, device, MemoryTag::workspace);
  copy_bytes(list.raw(), device, samples.data(), Device{}, static_cast<size_t>(bytes));
  const Tensor table = upload_table(tables, device);
  map(device, "gather_slices", s.rows(),
      GatherSlices{static_cast<const SliceSample*>(list.raw()), table.data<int32_t>(), image.data<float>(),
                   label.defined() ? label.data<uint8_t>() : nullptr, s.c, s.h, s.w});
}

}  // namespace semivox::kernels
