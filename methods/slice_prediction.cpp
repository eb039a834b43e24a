#include "methods/slice_prediction.hpp"

#include <algorithm>

#include "engine/arithmetic.hpp"
#include "kernels/gather_slices.hpp"
#include "kernels/zoom.hpp"

namespace semivox {

void check_slice_windows(const Network& network, const WindowOptions& options) {
  const auto divisor = network.divisor();
  const auto& p = options.patch;
  if (options.batch < 1) throw UsageError(text("window batch: found ", options.batch, ", expected >= 1"));
  if (options.whole_volume || options.mirror) {
    throw UsageError("zoomed slices: found a whole volume or mirroring, expected neither");
  }
  if (p[0] != 1 || p[1] < 1 || p[2] < 1 || p[1] % divisor[1] != 0 || p[2] % divisor[2] != 0) {
    throw UsageError(text("patch: found ", p[0], "x", p[1], "x", p[2],
                          ", expected one slice: 1xHxW, H and W multiples of ", divisor[1], "x", divisor[2]));
  }
}

Tensor predict_zoomed_slices(Network& network, const Tensor& image, const WindowOptions& options) {
  check_slice_windows(network, options);
  const NoGrad no_grad;
  const Shape& shape = image.shape();
  const Device device = network.device();
  SEMIVOX_CHECK(shape.n == 1 && image.device() == device, shape.str(), " on ", image.device().name());
  const int64_t height = options.patch[1], width = options.patch[2], classes = network.options().classes;
  std::vector<int32_t> table = kernels::zoom_table(shape.h, height);
  const std::vector<int32_t> columns = kernels::zoom_table(shape.w, width);
  table.insert(table.end(), columns.begin(), columns.end());
  const std::vector<int32_t> back_rows = kernels::zoom_table(height, shape.h);
  const std::vector<int32_t> back_columns = kernels::zoom_table(width, shape.w);

  const Tensor scores = Tensor::empty({shape.d, classes, 1, shape.h, shape.w}, DType::f32, device);
  for (int64_t first = 0; first < shape.d; first += options.batch) {
    const int64_t batch = std::min(options.batch, shape.d - first);
    std::vector<kernels::SliceSample> samples(static_cast<size_t>(batch));
    std::vector<int32_t> tables;
    for (int64_t n = 0; n < batch; ++n) {
      kernels::SliceSample& sample = samples[static_cast<size_t>(n)];
      sample.image = image.data<float>() + (first + n) * shape.h * shape.w * shape.c;
      sample.height = shape.h;
      sample.width = shape.w;
      sample.stride[0] = shape.w;
      sample.stride[1] = 1;
      tables.insert(tables.end(), table.begin(), table.end());
    }
    const Tensor slices = Tensor::empty({batch, shape.c, 1, height, width}, DType::f32, device);
    kernels::gather_slices(samples, tables, slices, Tensor());
    const Tensor logits = cast(network.forward(Variable(slices), Pass{}).value(), DType::f32);
    kernels::softmax_zoom(logits, back_rows, back_columns, scores.samples(first, batch));
  }
  return scores.reshaped({1, classes, shape.d, shape.h, shape.w});
}

}  // namespace semivox
