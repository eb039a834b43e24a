#include "io/resample.hpp"

#include <algorithm>
#include <cmath>

#include "engine/error.hpp"
#include "engine/parallel.hpp"

namespace semivox::io {
namespace {

/// Output voxel i lies between the input voxels low[i] and high[i], at the fraction weight[i] of the way.
struct LinearAxis {
  std::vector<int64_t> low, high;
  std::vector<float> weight;
};

LinearAxis linear_axis(int64_t from, int64_t to) {
  LinearAxis axis;
  for (int64_t i = 0; i < to; ++i) {
    const double centre =
        (static_cast<double>(i) + 0.5) * static_cast<double>(from) / static_cast<double>(to) - 0.5;
    const double position = std::clamp(centre, 0.0, static_cast<double>(from - 1));
    const auto low = static_cast<int64_t>(position);
    axis.low.push_back(low);
    axis.high.push_back(std::min(low + 1, from - 1));
    axis.weight.push_back(static_cast<float>(position - static_cast<double>(low)));
  }
  return axis;
}

/// The nearest input voxels of output voxel i: low[i], or low[i] and high[i] when it lies halfway between the
/// two.
struct NearestAxis {
  std::vector<int64_t> low, high;
};

NearestAxis nearest_axis(int64_t from, int64_t to) {
  NearestAxis axis;
  for (int64_t i = 0; i < to; ++i) {
    const int64_t numerator = (2 * i + 1) * from, denominator = 2 * to;  // position from the border, exact
    const int64_t voxel = numerator / denominator;
    const bool halfway = numerator % denominator == 0;  // on the face between voxel - 1 and voxel
    axis.low.push_back(halfway ? voxel - 1 : voxel);
    axis.high.push_back(voxel);
  }
  return axis;
}

/// Label of output voxel (i, j, k) among its equally near input voxels.
uint8_t vote(const uint8_t* labels, const Extent3& from, const NearestAxis (&axes)[3], int64_t i, int64_t j,
             int64_t k) {
  uint8_t candidates[8] = {};
  int count = 0;
  for (int64_t a = axes[0].low[i]; a <= axes[0].high[i]; ++a) {
    for (int64_t b = axes[1].low[j]; b <= axes[1].high[j]; ++b) {
      for (int64_t c = axes[2].low[k]; c <= axes[2].high[k]; ++c) {
        candidates[count++] = labels[(a * from[1] + b) * from[2] + c];
      }
    }
  }
  const auto votes = [&](uint8_t label) { return std::count(candidates, candidates + count, label); };
  uint8_t winner = (i + j + k) % 2 == 0 ? candidates[0] : candidates[count - 1];
  for (int n = 0; n < count; ++n) {
    if (votes(candidates[n]) > votes(winner)) winner = candidates[n];
  }
  return winner;
}

Geometry resampled_geometry(const Geometry& geometry, const Extent3& from, const Extent3& to) {
  Geometry result;
  result.known = geometry.known;
  for (int a = 0; a < 3; ++a) {
    result.spacing[a] = geometry.spacing[a] * static_cast<double>(from[a]) / static_cast<double>(to[a]);
  }
  return result;
}

}  // namespace

Extent3 resampled_shape(const Extent3& shape, const std::array<double, 3>& spacing,
                        const std::array<double, 3>& target) {
  Extent3 result{};
  for (int a = 0; a < 3; ++a) {
    if (!(spacing[a] > 0) || !(target[a] > 0)) {
      throw UsageError(text("spacing along axis ", a, ": found ", spacing[a], " mm, target ", target[a],
                            " mm, expected positive numbers"));
    }
    const double voxels = static_cast<double>(shape[a]) * spacing[a] / target[a];
    if (!(voxels < 65536)) {
      throw UsageError(text("spacing along axis ", a, ": found ", shape[a], " voxels of ", spacing[a],
                            " mm, which at ", target[a], " mm are ", voxels, ", expected fewer than 65536"));
    }
    // Spacings come from float headers: 183 * 0.625 / 1.25 must round as 91.5 does.
    result[a] = std::max(static_cast<int64_t>(std::floor(voxels + 0.5 + 1e-6)), int64_t{1});
  }
  return result;
}

std::vector<float> resample_linear(const std::vector<float>& values, int64_t channels, const Extent3& from,
                                   const Extent3& to) {
  SEMIVOX_CHECK(static_cast<int64_t>(values.size()) == voxel_count(from) * channels, values.size(),
                " values");
  if (from == to) return values;
  const LinearAxis axes[3] = {linear_axis(from[0], to[0]), linear_axis(from[1], to[1]),
                              linear_axis(from[2], to[2])};
  const int64_t row = from[2] * channels;
  std::vector<float> result(voxel_count(to) * channels);
  parallel_blocks(to[0], 1, [&](int64_t i, int64_t) {
    std::vector<float> blended(
        row);  // the input row at output position (i, j), still on the input grid along axis 2
    for (int64_t j = 0; j < to[1]; ++j) {
      const float wi = axes[0].weight[i], wj = axes[1].weight[j];
      const auto input_row = [&](int64_t a, int64_t b) { return values.data() + (a * from[1] + b) * row; };
      const float* ll = input_row(axes[0].low[i], axes[1].low[j]);
      const float* lh = input_row(axes[0].low[i], axes[1].high[j]);
      const float* hl = input_row(axes[0].high[i], axes[1].low[j]);
      const float* hh = input_row(axes[0].high[i], axes[1].high[j]);
      for (int64_t x = 0; x < row; ++x) {
        blended[x] = (1 - wi) * ((1 - wj) * ll[x] + wj * lh[x]) + wi * ((1 - wj) * hl[x] + wj * hh[x]);
      }
      float* out = result.data() + (i * to[1] + j) * to[2] * channels;
      for (int64_t k = 0; k < to[2]; ++k) {
        const float* low = blended.data() + axes[2].low[k] * channels;
        const float* high = blended.data() + axes[2].high[k] * channels;
        const float wk = axes[2].weight[k];
        for (int64_t c = 0; c < channels; ++c) out[k * channels + c] = (1 - wk) * low[c] + wk * high[c];
      }
    }
  });
  return result;
}

std::vector<uint8_t> resample_nearest(const std::vector<uint8_t>& labels, const Extent3& from,
                                      const Extent3& to) {
  SEMIVOX_CHECK(static_cast<int64_t>(labels.size()) == voxel_count(from), labels.size(), " labels");
  if (from == to) return labels;
  const NearestAxis axes[3] = {nearest_axis(from[0], to[0]), nearest_axis(from[1], to[1]),
                               nearest_axis(from[2], to[2])};
  std::vector<uint8_t> result(voxel_count(to));
  parallel_blocks(to[0], 1, [&](int64_t i, int64_t) {
    for (int64_t j = 0; j < to[1]; ++j) {
      for (int64_t k = 0; k < to[2]; ++k) {
        result[(i * to[1] + j) * to[2] + k] = vote(labels.data(), from, axes, i, j, k);
      }
    }
  });
  return result;
}

std::vector<uint8_t> resample_argmax(const std::vector<float>& probabilities, int64_t classes,
                                     const Extent3& from, const Extent3& to) {
  const std::vector<float> resampled = resample_linear(probabilities, classes, from, to);
  std::vector<uint8_t> labels(voxel_count(to));
  parallel_blocks(voxel_count(to), 65536, [&](int64_t begin, int64_t end) {
    for (int64_t v = begin; v < end; ++v) {
      const float* p = resampled.data() + v * classes;
      labels[v] = static_cast<uint8_t>(std::max_element(p, p + classes) - p);
    }
  });
  return labels;
}

Image resample_image(const Image& image, const Extent3& to) {
  if (image.shape == to) return image;
  return {to, resample_linear(image.voxels, 1, image.shape, to),
          resampled_geometry(image.geometry, image.shape, to)};
}

LabelMap resample_labels(const LabelMap& labels, const Extent3& to) {
  if (labels.shape == to) return labels;
  return {to, resample_nearest(labels.voxels, labels.shape, to),
          resampled_geometry(labels.geometry, labels.shape, to)};
}

}  // namespace semivox::io
