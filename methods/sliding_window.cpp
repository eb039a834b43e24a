#include "methods/sliding_window.hpp"

#include <algorithm>
#include <cmath>

#include "engine/arithmetic.hpp"
#include "kernels/components.hpp"
#include "kernels/gather.hpp"
#include "kernels/window.hpp"
#include "methods/slice_prediction.hpp"

namespace semivox {
namespace {

using Axes = std::array<int64_t, 3>;

/// The grid of windows over one volume.
struct Plan {
  Axes patch, shape;
  Axes before;                                 // padding voxels in front of the volume
  std::array<std::vector<int64_t>, 3> starts;  // in the padded volume
  std::array<std::vector<float>, 3> weights;   // of a window's voxels, along each axis
  std::vector<kernels::WindowPlace> places;    // in the order in which they are added up
};

std::vector<float> axis_weights(int64_t patch, WindowOptions::Weighting weighting) {
  std::vector<float> weights(static_cast<size_t>(patch), 1.0f);
  if (weighting == WindowOptions::Weighting::uniform) return weights;
  // At most 4 sigma from the centre: the smallest factor is exp(-8), never zero.
  const double centre = static_cast<double>(patch - 1) / 2, sigma = static_cast<double>(patch) / 8;
  for (int64_t i = 0; i < patch; ++i) {
    const double x = (static_cast<double>(i) - centre) / sigma;
    weights[i] = static_cast<float>(std::exp(-0.5 * x * x));
  }
  return weights;
}

Plan make_plan(const Axes& divisor, const Axes& shape, const WindowOptions& options) {
  check_windows(options, divisor);
  Plan plan;
  plan.shape = shape;
  for (int a = 0; a < 3; ++a) {
    plan.patch[a] =
        options.whole_volume ? (shape[a] + divisor[a] - 1) / divisor[a] * divisor[a] : options.patch[a];
    const int64_t missing = std::max<int64_t>(plan.patch[a] - shape[a], 0);
    plan.before[a] = missing / 2;
    plan.starts[a] = window_starts(shape[a] + missing, plan.patch[a],
                                   options.whole_volume ? plan.patch[a] : options.stride[a]);
    plan.weights[a] = axis_weights(plan.patch[a], options.weighting);
  }
  for (const int64_t d : plan.starts[0]) {
    for (const int64_t h : plan.starts[1]) {
      for (const int64_t w : plan.starts[2]) {
        for (int mirror = 0; mirror < (options.mirror ? 8 : 1); ++mirror) {
          plan.places.push_back({{d - plan.before[0], h - plan.before[1], w - plan.before[2]},
                                 {(mirror & 1) != 0, (mirror & 2) != 0, (mirror & 4) != 0}});
        }
      }
    }
  }
  return plan;
}

/// Which voxels of the image a window shows; outside of the image it is padded.
kernels::IndexMap index_map(const Plan& plan, const kernels::WindowPlace& place) {
  const Axes image_stride{plan.shape[1] * plan.shape[2], plan.shape[2], 1};
  kernels::IndexMap map;
  for (int a = 0; a < 3; ++a) {
    const int64_t begin = std::max<int64_t>(0, -place.start[a]);
    const int64_t end = std::min(plan.patch[a], plan.shape[a] - place.start[a]);
    map.begin[a] = place.mirror[a] ? plan.patch[a] - end : begin;
    map.end[a] = place.mirror[a] ? plan.patch[a] - begin : end;
    map.stride[a] = place.mirror[a] ? -image_stride[a] : image_stride[a];
    map.origin += (place.start[a] + (place.mirror[a] ? plan.patch[a] - 1 : 0)) * image_stride[a];
  }
  return map;
}

Tensor upload(const std::array<std::vector<float>, 3>& axes, Device device) {
  std::vector<float> joined;
  for (const std::vector<float>& axis : axes) joined.insert(joined.end(), axis.begin(), axis.end());
  const Tensor tensor = Tensor::empty({1, static_cast<int64_t>(joined.size()), 1, 1, 1}, DType::f32, device,
                                      MemoryTag::workspace);
  copy_bytes(tensor.raw(), device, joined.data(), Device{}, joined.size() * sizeof(float));
  return tensor;
}

/// Sums of the window weights that the voxels of each axis receive. Mirrored passes multiply them.
std::array<std::vector<float>, 3> axis_totals(const Plan& plan, bool mirror) {
  std::array<std::vector<float>, 3> totals;
  for (int a = 0; a < 3; ++a) {
    totals[a].assign(static_cast<size_t>(plan.shape[a]), 0.0f);
    for (const int64_t start : plan.starts[a]) {
      for (int64_t p = 0; p < plan.patch[a]; ++p) {
        const int64_t i = start - plan.before[a] + p;
        if (i >= 0 && i < plan.shape[a]) totals[a][i] += (mirror ? 2.0f : 1.0f) * plan.weights[a][p];
      }
    }
  }
  return totals;
}

}  // namespace

void check_windows(const WindowOptions& options, const Axes& divisor) {
  if (options.batch < 1) throw UsageError(text("window batch: found ", options.batch, ", expected >= 1"));
  if (options.whole_volume) return;
  const Axes &p = options.patch, &s = options.stride;
  for (int a = 0; a < 3; ++a) {
    if (p[a] < 1 || p[a] % divisor[a] != 0) {
      throw UsageError(text("patch: found ", p[0], "x", p[1], "x", p[2], ", expected multiples of ",
                            divisor[0], "x", divisor[1], "x", divisor[2]));
    }
    if (s[a] < 1 || s[a] > p[a]) {
      throw UsageError(text("stride: found ", s[0], "x", s[1], "x", s[2], ", expected 1 to ", p[0], "x", p[1],
                            "x", p[2], " (the patch; a larger one leaves gaps)"));
    }
  }
}

std::vector<int64_t> window_starts(int64_t size, int64_t patch, int64_t stride) {
  const int64_t last = size - patch;
  std::vector<int64_t> starts;
  for (int64_t i = 0; i <= (last + stride - 1) / stride; ++i) starts.push_back(std::min(i * stride, last));
  return starts;
}

int64_t window_count(const Network& network, const Axes& shape, const WindowOptions& options) {
  if (options.zoom_slices) {
    check_slice_windows(network, options);
    return shape[0];
  }
  const Plan plan = make_plan(network.divisor(), shape, options);
  return static_cast<int64_t>(plan.starts[0].size() * plan.starts[1].size() * plan.starts[2].size());
}

Tensor predict_probabilities(Network& network, const Tensor& image, const WindowOptions& options) {
  if (options.zoom_slices) return predict_zoomed_slices(network, image, options);
  const NoGrad no_grad;
  const Shape& shape = image.shape();
  const Device device = network.device();
  SEMIVOX_CHECK(shape.n == 1 && image.device() == device, shape.str(), " on ", image.device().name());
  const Plan plan = make_plan(network.divisor(), {shape.d, shape.h, shape.w}, options);
  const Tensor weights = upload(plan.weights, device);
  const auto count = static_cast<int64_t>(plan.places.size());

  Tensor scores = Tensor::zeros(shape.with_channels(network.options().classes), DType::f32, device);
  for (int64_t first = 0; first < count; first += options.batch) {
    const int64_t batch = std::min(options.batch, count - first);
    std::vector<kernels::GatherSample> samples(static_cast<size_t>(batch));
    for (int64_t n = 0; n < batch; ++n) {
      samples[n].image = image.raw();
      samples[n].map = index_map(plan, plan.places[first + n]);
    }
    const Tensor windows =
        Tensor::empty({batch, shape.c, plan.patch[0], plan.patch[1], plan.patch[2]}, DType::f32, device);
    kernels::gather(samples, windows, Tensor());
    const Tensor logits = cast(network.forward(Variable(windows), Pass{}).value(), DType::f32);
    for (int64_t n = 0; n < batch; ++n) {
      kernels::add_softmax_window(logits.samples(n, 1), plan.places[first + n], weights, scores);
    }
  }
  kernels::divide_by_totals(upload(axis_totals(plan, options.mirror), device), scores);
  return scores;
}

Tensor argmax_labels(const Tensor& probabilities, int neighbours) {
  Tensor labels = kernels::argmax_classes(probabilities);
  if (neighbours != 0) {
    kernels::largest_component_per_class(labels, static_cast<int>(probabilities.shape().c), neighbours,
                                         labels);
  }
  return labels;
}

}  // namespace semivox
