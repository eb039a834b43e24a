#include "io/voxel_check.hpp"

#include <algorithm>
#include <cmath>

#include "engine/error.hpp"

namespace semivox::io {
namespace {

std::string position(size_t index, const Extent3& shape) {
  const auto i = static_cast<int64_t>(index);
  return text("(", i / (shape[1] * shape[2]), ", ", i / shape[2] % shape[1], ", ", i % shape[2], ")");
}

}  // namespace

void require_finite(const std::string& path, std::span<const float> voxels, const Extent3& shape) {
  const auto bad = [](float value) { return !std::isfinite(value); };
  const auto count = std::count_if(voxels.begin(), voxels.end(), bad);
  if (count == 0) return;
  const auto first = static_cast<size_t>(std::find_if(voxels.begin(), voxels.end(), bad) - voxels.begin());
  throw DataError(text(path, ": ", count, " of ", voxels.size(), " voxels are NaN or infinite, the first at ",
                       position(first, shape), ", expected finite values"));
}

std::vector<uint8_t> labels_from_values(const std::string& path, std::span<const double> values,
                                        const Extent3& shape, int classes) {
  SEMIVOX_CHECK(classes >= 1 && classes <= 256, classes, " classes");
  std::vector<uint8_t> labels(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    if (!(values[i] >= 0 && values[i] < classes && values[i] == std::floor(values[i]))) {
      throw DataError(text(path, ": label ", values[i], " at voxel ", position(i, shape),
                           ", expected integers 0 ... ", classes - 1));
    }
    labels[i] = static_cast<uint8_t>(values[i]);
  }
  return labels;
}

}  // namespace semivox::io
