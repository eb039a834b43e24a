// A look at every case of a data set: what it holds and what is wrong with it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "io/dataset.hpp"
#include "io/volume.hpp"

namespace semivox::io {

struct CaseReport {
  std::string id;
  bool labeled = false;
  size_t channels = 0;  ///< of the files; 0 when they cannot be read
  Extent3 shape{0, 0, 0};
  bool spacing_known = false;
  std::array<double, 3> spacing{1, 1, 1};     ///< mm
  double minimum = 0, maximum = 0, mean = 0;  ///< of the image, scaling applied
  std::vector<int64_t> voxels;                ///< per class, empty without a label
  std::vector<int64_t> components;            ///< 26-connected parts per class, 0 for the background
  std::vector<std::string> problems;          ///< each names file, found and expected

  /// Share of the label's voxels that are not background; 0 without a label.
  double foreground_fraction() const;
};

enum class GeometryCheck {
  compare,  ///< image and label must lie in the same place
  ignore,   ///< only their shapes must agree
};

/// Decodes a case. Whatever cannot be used becomes a problem: unreadable or truncated files, NaN, label
/// values outside 0 ... classes-1, shapes, spacings or positions in the world that differ between image and
/// label, a constant image.
CaseReport inspect_case(const CaseFiles& files, int classes, GeometryCheck geometry);

/// All cases of the folder, several at a time, in the folder's order.
std::vector<CaseReport> inspect_dataset(const DatasetFolder& folder, GeometryCheck geometry);

/// The reports as an aligned table, one case per line.
std::string format_reports(const std::vector<CaseReport>& reports);

/// The reports as JSON text: a list of objects.
std::string reports_json(const std::vector<CaseReport>& reports);

}  // namespace semivox::io
