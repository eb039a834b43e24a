#include "io/prepare.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "engine/error.hpp"
#include "engine/parallel.hpp"
#include "io/bspline.hpp"
#include "io/case_reader.hpp"
#include "io/normalize.hpp"

namespace semivox::io {
namespace {

constexpr double kLowestHU = -125, kHighestHU = 275;
constexpr int64_t kPatch = 96, kBorder = 25;
constexpr double kClipFraction = 0.999;
constexpr int kFloatBins = 256;

/// Half-open box.
struct Box {
  Extent3 begin{0, 0, 0}, end{0, 0, 0};
};

/// The box, end exclusive, of the voxels for which `inside(v)`; empty when there is none.
template <class F>
Box box_of(const Extent3& shape, const F& inside) {
  Box box{shape, {0, 0, 0}};
  for (int64_t i = 0, v = 0; i < shape[0]; ++i) {
    for (int64_t j = 0; j < shape[1]; ++j) {
      for (int64_t k = 0; k < shape[2]; ++k, ++v) {
        if (!inside(v)) continue;
        const Extent3 at{i, j, k};
        for (int a = 0; a < 3; ++a) {
          box.begin[a] = std::min(box.begin[a], at[a]);
          box.end[a] = std::max(box.end[a], at[a] + 1);
        }
      }
    }
  }
  return box;
}

/// The voxels of a box; 0 where it passes the volume.
template <class T>
std::vector<T> cropped(const std::vector<T>& voxels, const Extent3& shape, const Box& box) {
  const Extent3 size{box.end[0] - box.begin[0], box.end[1] - box.begin[1], box.end[2] - box.begin[2]};
  std::vector<T> result(static_cast<size_t>(voxel_count(size)));
  const int64_t last = std::min(box.end[2], shape[2]);
  for (int64_t i = box.begin[0]; i < std::min(box.end[0], shape[0]); ++i) {
    for (int64_t j = box.begin[1]; j < std::min(box.end[1], shape[1]); ++j) {
      const T* row = voxels.data() + (i * shape[1] + j) * shape[2];
      std::copy(row + box.begin[2], row + last,
                result.data() + ((i - box.begin[0]) * size[1] + j - box.begin[1]) * size[2]);
    }
  }
  return result;
}

PreparedCase cropped(const PreparedCase& whole, const Box& box) {
  PreparedCase part;
  const Extent3& shape = whole.image.shape;
  for (int a = 0; a < 3; ++a) part.image.shape[a] = box.end[a] - box.begin[a];
  part.label.shape = part.image.shape;
  part.image.geometry.spacing = part.label.geometry.spacing = whole.image.geometry.spacing;
  part.image.geometry.known = part.label.geometry.known = true;
  part.image.voxels = cropped(whole.image.voxels, shape, box);
  if (!whole.label.voxels.empty()) part.label.voxels = cropped(whole.label.voxels, shape, box);
  return part;
}

/// Labels at positions i * step of the old grid, nearest voxel, 0 outside.
LabelMap nearest_labels(const LabelMap& label, const Extent3& to, const std::array<double, 3>& step) {
  std::array<std::vector<int64_t>, 3> source;
  for (int a = 0; a < 3; ++a) {
    for (int64_t i = 0; i < to[a]; ++i) {
      const auto index = static_cast<int64_t>(std::floor(static_cast<double>(i) * step[a] + 0.5));
      source[a].push_back(index < label.shape[a] ? index : -1);
    }
  }
  LabelMap result{to, std::vector<uint8_t>(static_cast<size_t>(voxel_count(to))), {}};
  parallel_blocks(to[0], 1, [&](int64_t i, int64_t) {
    for (int64_t j = 0; j < to[1]; ++j) {
      for (int64_t k = 0; k < to[2]; ++k) {
        const int64_t x = source[0][i], y = source[1][j], z = source[2][k];
        if (x < 0 || y < 0 || z < 0) continue;
        result.voxels[(i * to[1] + j) * to[2] + k] =
            label.voxels[(x * label.shape[1] + y) * label.shape[2] + z];
      }
    }
  });
  return result;
}

/// Values at positions i * step of the old grid, trilinear; up to `reach` voxels outside the centres those of
/// the border, 0 beyond.
template <class T>
std::vector<float> linear_values(const std::vector<T>& voxels, const Extent3& from, const Extent3& to,
                                 const std::array<double, 3>& step, double reach) {
  std::vector<float> result(static_cast<size_t>(voxel_count(to)));
  parallel_blocks(to[0], 1, [&](int64_t i, int64_t) {
    for (int64_t j = 0; j < to[1]; ++j) {
      for (int64_t k = 0; k < to[2]; ++k) {
        double at[3] = {static_cast<double>(i) * step[0], static_cast<double>(j) * step[1],
                        static_cast<double>(k) * step[2]};
        int64_t low[3];
        double fraction[3];
        bool inside = true;
        for (int a = 0; a < 3; ++a) {
          const auto border = static_cast<double>(from[a] - 1);
          inside = inside && at[a] <= border + reach;
          at[a] = std::min(at[a], border);
          low[a] = std::min(static_cast<int64_t>(at[a]), std::max<int64_t>(from[a] - 2, 0));
          fraction[a] = at[a] - static_cast<double>(low[a]);
        }
        if (!inside) continue;
        double value = 0;
        for (int corner = 0; corner < 8; ++corner) {
          double weight = 1;
          int64_t index[3];
          for (int a = 0; a < 3; ++a) {
            const bool high = (corner >> a & 1) != 0;
            weight *= high ? fraction[a] : 1 - fraction[a];
            index[a] = std::min(low[a] + (high ? 1 : 0), from[a] - 1);
          }
          if (weight != 0) value += weight * voxels[(index[0] * from[1] + index[1]) * from[2] + index[2]];
        }
        result[(i * to[1] + j) * to[2] + k] = static_cast<float>(value);
      }
    }
  });
  return result;
}

/// The grid of whole millimetres in an image.
struct Millimetres {
  Extent3 shape{};
  std::array<double, 3> step{};  // voxels of the image per millimetre

  explicit Millimetres(const Image& image) {
    for (int a = 0; a < 3; ++a) {
      const double spacing = image.geometry.spacing[a],
                   length = static_cast<double>(image.shape[a]) * spacing;
      // Spacings come from float headers: 512 * 0.859375 must not lose a voxel to rounding.
      shape[a] = std::max<int64_t>(static_cast<int64_t>(length + 1e-6), 1);
      step[a] = 1 / spacing;
    }
  }
};

/// The box of the foreground along the first `axes` axes, widened to 96, with 25 voxels below and 24 above;
/// everything along the others.
Box box_around_label(const LabelMap& label, int axes) {
  Box box = box_of(label.shape, [&](int64_t v) { return label.voxels[v] != 0; });
  for (int a = 0; a < 3; ++a) {
    const int64_t low = box.begin[a], high = box.end[a] - 1;  // inclusive
    const int64_t widen = std::max<int64_t>(kPatch - (high - low), 0) / 2;
    box.begin[a] = a < axes ? std::max<int64_t>(low - widen - kBorder, 0) : 0;
    box.end[a] = a < axes ? std::min(high + widen + kBorder, label.shape[a]) : label.shape[a];
  }
  return box;
}

PreparedCase prepare_mc_net(const Image& image, const LabelMap& label, const std::string& file) {
  const auto& spacing = image.geometry.spacing;
  const Millimetres grid(image);
  const Extent3& to = grid.shape;
  PreparedCase whole;
  whole.image = {to, resample_cubic(image.voxels, image.shape, to, grid.step), image.geometry};
  whole.image.geometry.spacing = {1, 1, 1};
  whole.label = nearest_labels(label, to, grid.step);
  for (int a = 0; a < 3; ++a) {  // beyond half a voxel outside the old grid
    const double edge = static_cast<double>(image.shape[a]) - 0.5;
    const auto inside = static_cast<int64_t>(std::floor(edge * spacing[a])) + 1;
    if (inside >= to[a]) continue;
    for (int64_t v = 0; v < voxel_count(to); ++v) {
      const Extent3 at{v / (to[1] * to[2]), v / to[2] % to[1], v % to[2]};
      if (at[a] >= inside) whole.image.voxels[v] = 0;
    }
  }
  for (float& v : whole.image.voxels) {
    const double clipped = std::clamp<double>(v, kLowestHU, kHighestHU);
    v = static_cast<float>((clipped - kLowestHU) / (kHighestHU - kLowestHU));
  }
  PreparedCase result = cropped(whole, box_around_label(whole.label, 2));
  normalize(result.image, {Normalization::Kind::zscore}, file);
  return result;
}

PreparedCase prepare_rcps(const Image& image, const LabelMap& label, const std::string& file) {
  const Millimetres grid(image);
  PreparedCase whole;
  whole.image = {grid.shape, linear_values(image.voxels, image.shape, grid.shape, grid.step, 0.5),
                 image.geometry};
  whole.image.geometry.spacing = {1, 1, 1};
  whole.label = {grid.shape, {}, {}};
  for (const float share : linear_values(label.voxels, label.shape, grid.shape, grid.step, 0.5))
    whole.label.voxels.push_back(share >= 0.5f);
  for (float& v : whole.image.voxels) v = static_cast<float>(std::clamp<double>(v, kLowestHU, kHighestHU));
  normalize(whole.image, {Normalization::Kind::minmax}, file);
  return cropped(whole, box_around_label(whole.label, 3));
}

PreparedCase prepare_coranet(const Image& image, const LabelMap& label, const std::string& file) {
  const double spacing = image.geometry.spacing[0];
  Extent3 to{};
  const std::array<double, 3> step{1 / spacing, 1 / spacing, 1 / spacing};
  for (int a = 0; a < 3; ++a)
    to[a] = std::max<int64_t>(std::llrint(static_cast<double>(image.shape[a]) * spacing), 1);
  PreparedCase whole;
  whole.image = {to, linear_values(image.voxels, image.shape, to, step, 0), image.geometry};
  whole.image.geometry.spacing = {1, 1, 1};
  whole.label = nearest_labels(label, to, step);
  for (float& v : whole.image.voxels) {
    v = static_cast<float>(std::clamp<double>(std::round(v), kLowestHU, kHighestHU));
  }
  normalize(whole.image, {Normalization::Kind::minmax}, file);
  Box box = box_of(to, [&](int64_t v) { return whole.label.voxels[v] != 0; });
  for (int a = 0; a < 3; ++a) {
    int64_t low = std::max<int64_t>(box.begin[a] - kBorder, 0);
    int64_t high = std::min(box.end[a] + 1 + kBorder, to[a]);  // exclusive; one more than the margin
    if (high - low < kPatch) {
      const int64_t missing = kPatch - (high - low);
      low -= missing / 2;
      high += missing - missing / 2;
      if (low < 0) high -= low, low = 0;
      if (high > to[a])
        low = std::max<int64_t>(low - (high - to[a]), 0), high = std::max(to[a], low + kPatch);
    }
    box.begin[a] = low;
    box.end[a] = high;
  }
  return cropped(whole, box);
}

/// The smallest histogram value whose cumulative fraction is >= kClipFraction.
double clip_value(const std::vector<float>& voxels, bool integers) {
  const auto needed = kClipFraction * static_cast<double>(voxels.size());
  if (integers) {
    std::map<float, int64_t> counts;
    for (const float v : voxels) ++counts[v];
    double cumulative = 0;
    for (const auto& [value, count] : counts) {
      cumulative += static_cast<double>(count);
      if (cumulative >= needed) return value;
    }
  }
  const auto [low, high] = std::minmax_element(voxels.begin(), voxels.end());
  const double width = (static_cast<double>(*high) - *low) / kFloatBins;
  if (width == 0) return *high;
  std::vector<int64_t> counts(kFloatBins, 0);
  for (const float v : voxels) {
    ++counts[static_cast<size_t>(std::min<double>((static_cast<double>(v) - *low) / width, kFloatBins - 1))];
  }
  double cumulative = 0;
  for (int bin = 0; bin < kFloatBins; ++bin) {
    cumulative += static_cast<double>(counts[bin]);
    if (cumulative >= needed) return *low + (bin + 0.5) * width;
  }
  return *high;
}

}  // namespace

PreparedCase prepare_pancreas(const Image& image, const LabelMap& label, PancreasPipeline pipeline,
                              const std::string& file) {
  require_same_shape({file, {file}, "its label"}, image.shape, label.shape);
  if (!image.geometry.known) throw DataError(text(file, ": has no voxel spacing, expected a NIfTI file"));
  if (std::all_of(label.voxels.begin(), label.voxels.end(), [](uint8_t v) { return v == 0; }))
    throw DataError(text(file, ": its label has no foreground, expected the organ to crop around"));
  switch (pipeline) {
    case PancreasPipeline::mc_net:
      return prepare_mc_net(image, label, file);
    case PancreasPipeline::coranet:
      return prepare_coranet(image, label, file);
    case PancreasPipeline::rcps:
      return prepare_rcps(image, label, file);
  }
  throw InternalError("unknown pipeline");
}

PreparedCase prepare_brats(const StoredImage& stored, const LabelMap& label, const std::string& file) {
  const Image image = decode(stored);
  if (!label.voxels.empty()) require_same_shape({file, {file}, "its label"}, image.shape, label.shape);
  Box box = box_of(image.shape, [&](int64_t v) { return image.voxels[v] != 0; });
  for (int a = 0; a < 3; ++a) box.end[a] = std::max(box.end[a] - 1, box.begin[a]);  // the last plane is lost
  PreparedCase result = cropped(PreparedCase{image, label}, box);
  std::vector<float>& voxels = result.image.voxels;
  if (std::none_of(voxels.begin(), voxels.end(), [](float v) { return v > 0; }))
    throw DataError(text(file, ": no voxel > 0 in the box of the brain, expected a skull-stripped image"));
  const bool integers = stored.type != StoredType::f32 && stored.slope == 1 && stored.intercept == 0;
  const auto clip = static_cast<float>(clip_value(voxels, integers));
  for (float& v : voxels) v = std::min(v, clip);
  normalize(result.image, {Normalization::Kind::zscore_positive}, file);
  for (uint8_t& v : result.label.voxels) v = v > 0;
  return result;
}

}  // namespace semivox::io
