#include "io/data_check.hpp"

#include <nifti/nifti2_io.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "engine/error.hpp"
#include "engine/tensor.hpp"
#include "io/case_reader.hpp"
#include "io/nifti_header.hpp"
#include "io/parallel_cases.hpp"
#include "kernels/components.hpp"

namespace semivox::io {
namespace {

using Point = std::array<double, 3>;

std::string spacing_text(const std::array<double, 3>& s) { return text(s[0], "x", s[1], "x", s[2], " mm"); }

/// Rows of the matrix from voxel indices to mm: sform when the file has one, else qform, else nothing.
std::optional<std::array<std::array<double, 4>, 3>> affine_of(const NiftiHeader& header) {
  std::array<std::array<double, 4>, 3> rows{};
  const bool found = std::visit(
      [&](const auto& h) {
        if (h.sform_code > 0) {
          for (int c = 0; c < 4; ++c)
            rows[0][c] = h.srow_x[c], rows[1][c] = h.srow_y[c], rows[2][c] = h.srow_z[c];
          return true;
        }
        if (h.qform_code <= 0) return false;
        const nifti_dmat44 m =
            nifti_quatern_to_dmat44(h.quatern_b, h.quatern_c, h.quatern_d, h.qoffset_x, h.qoffset_y,
                                    h.qoffset_z, h.pixdim[1], h.pixdim[2], h.pixdim[3], h.pixdim[0]);
        for (int r = 0; r < 3; ++r) std::copy_n(m.m[r], 4, rows[r].begin());
        return true;
      },
      header.fields);
  return found ? std::optional(rows) : std::nullopt;
}

/// Largest distance (mm) between where the two headers put the corners of the grid; nothing when one does not
/// say.
std::optional<double> corner_distance(const Geometry& a, const Geometry& b, const Extent3& shape) {
  if (!a.nifti_header || !b.nifti_header) return std::nullopt;
  const auto affine_a = affine_of(*a.nifti_header), affine_b = affine_of(*b.nifti_header);
  if (!affine_a || !affine_b) return std::nullopt;
  double worst = 0;
  for (int corner = 0; corner < 8; ++corner) {
    double square = 0;
    for (int r = 0; r < 3; ++r) {
      double difference = (*affine_a)[r][3] - (*affine_b)[r][3];
      for (int c = 0; c < 3; ++c) {
        const double index = corner >> c & 1 ? static_cast<double>(shape[c] - 1) : 0.0;
        difference += ((*affine_a)[r][c] - (*affine_b)[r][c]) * index;
      }
      square += difference * difference;
    }
    worst = std::max(worst, std::sqrt(square));
  }
  return worst;
}

void compare_geometry(const CaseFiles& files, const Geometry& image, const Geometry& label,
                      const Extent3& shape, std::vector<std::string>& problems) {
  const double smallest = *std::min_element(image.spacing.begin(), image.spacing.end());
  for (int a = 0; a < 3; ++a) {
    if (std::abs(image.spacing[a] - label.spacing[a]) > 1e-3 * image.spacing[a]) {
      problems.push_back(text("image and label differ in spacing: ", files.images.front(), " has ",
                              spacing_text(image.spacing), ", ", files.label, " has ",
                              spacing_text(label.spacing)));
      return;
    }
  }
  const std::optional<double> apart = corner_distance(image, label, shape);
  if (apart && *apart > 0.05 * smallest) {
    problems.push_back(text("image and label differ in place: the headers of ", files.images.front(), " and ",
                            files.label, " put corners of the grid ", *apart, " mm apart"));
  }
}

void count_label(const LabelMap& label, int classes, CaseReport& report) {
  report.voxels.assign(classes, 0);
  report.components.assign(classes, 0);
  for (const uint8_t value : label.voxels) ++report.voxels[value];
  const Shape shape{1, 1, label.shape[0], label.shape[1], label.shape[2]};
  const Tensor mask = Tensor::empty(shape, DType::u8, Device{}, MemoryTag::workspace);
  Tensor numbers = Tensor::empty(shape, DType::i32, Device{}, MemoryTag::workspace);
  for (int c = 1; c < classes; ++c) {
    for (size_t v = 0; v < label.voxels.size(); ++v) mask.data<uint8_t>()[v] = label.voxels[v] == c;
    kernels::label_components(mask, 26, numbers);
    const int32_t* first = numbers.data<int32_t>();
    report.components[c] = *std::max_element(first, first + numbers.elements());
  }
}

/// Runs `action`; its DataError becomes a problem.
template <class Action>
void collect(std::vector<std::string>& problems, const Action& action) {
  try {
    action();
  } catch (const DataError& error) {
    problems.emplace_back(error.what());
  }
}

}  // namespace

double CaseReport::foreground_fraction() const {
  const int64_t all = std::accumulate(voxels.begin(), voxels.end(), int64_t{0});
  return all > 0 ? 1 - static_cast<double>(voxels[0]) / static_cast<double>(all) : 0;
}

CaseReport inspect_case(const CaseFiles& files, int classes, GeometryCheck geometry) {
  CaseReport report;
  report.id = files.id;
  report.labeled = !files.label.empty();
  Image image;
  collect(report.problems, [&] {
    const std::vector<Image> channels = read_case_channels(files);
    image = channels.front();
    report.channels = channels.size();
    report.shape = image.shape;
    report.spacing = image.geometry.spacing;
    report.spacing_known = image.geometry.known;
    report.minimum = std::numeric_limits<double>::infinity();
    report.maximum = -report.minimum;
    for (size_t c = 0; c < channels.size(); ++c) {
      const std::vector<float>& voxels = channels[c].voxels;
      const auto [low, high] = std::minmax_element(voxels.begin(), voxels.end());
      report.minimum = std::min<double>(report.minimum, *low);
      report.maximum = std::max<double>(report.maximum, *high);
      report.mean += std::accumulate(voxels.begin(), voxels.end(), 0.0) /
                     static_cast<double>(voxels.size() * channels.size());
      if (*low == *high) {
        throw DataError(text(files.images[std::min(c, files.images.size() - 1)], ": every voxel is ", *low,
                             ", expected an image"));
      }
    }
  });
  if (!report.labeled) return report;
  collect(report.problems, [&] {
    const LabelMap label = read_case_label(files, classes);
    count_label(label, classes, report);
    if (image.voxels.empty()) return;
    require_same_shape(files, image.shape, label.shape);
    if (geometry == GeometryCheck::compare) {
      compare_geometry(files, image.geometry, label.geometry, image.shape, report.problems);
    }
  });
  // An HDF5 file that cannot be opened is met twice.
  report.problems.erase(std::unique(report.problems.begin(), report.problems.end()), report.problems.end());
  return report;
}

std::vector<CaseReport> inspect_dataset(const DatasetFolder& folder, GeometryCheck geometry) {
  const auto count = static_cast<int64_t>(folder.cases.size());
  std::vector<CaseReport> reports(folder.cases.size());
  for_each_case(count, [&](int64_t i) {
    reports[i] = inspect_case(folder.cases[i], folder.classes(), geometry);
    if (reports[i].channels != 0 && reports[i].channels != folder.channels.size()) {
      reports[i].problems.push_back(text(folder.cases[i].images.front(), ": ", reports[i].channels,
                                         " channels, expected ", folder.channels.size(),
                                         " as dataset.json names them"));
    }
  });
  return reports;
}

std::string format_reports(const std::vector<CaseReport>& reports) {
  size_t width = 4;
  for (const CaseReport& report : reports) width = std::max(width, report.id.size());
  std::string table;
  char line[512];
  const int id_width = static_cast<int>(std::min(width, size_t{128}));
  std::snprintf(line, sizeof line, "%-*s  %-13s %-18s %10s %10s %10s %11s %6s\n", id_width, "case", "shape",
                "spacing (mm)", "min", "max", "mean", "foreground", "parts");
  table += line;
  for (const CaseReport& report : reports) {
    const std::string shape = text(report.shape[0], "x", report.shape[1], "x", report.shape[2]);
    const auto& s = report.spacing;
    const std::string spacing = report.spacing_known ? text(s[0], "x", s[1], "x", s[2]) : "unknown";
    std::string foreground = "no label", parts = "-";
    if (!report.voxels.empty()) {
      char percent[32];
      std::snprintf(percent, sizeof percent, "%.2f %%", 100 * report.foreground_fraction());
      foreground = percent;
      parts.clear();
      for (size_t c = 1; c < report.components.size(); ++c)
        parts += text(c > 1 ? "/" : "", report.components[c]);
    }
    std::snprintf(line, sizeof line, "%-*.128s  %-13s %-18s %10.4g %10.4g %10.4g %11s %6s\n", id_width,
                  report.id.c_str(), shape.c_str(), spacing.c_str(), report.minimum, report.maximum,
                  report.mean, foreground.c_str(), parts.c_str());
    table += line;
  }
  return table;
}

std::string reports_json(const std::vector<CaseReport>& reports) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const CaseReport& report : reports) {
    nlohmann::ordered_json entry{{"case", report.id}, {"shape", report.shape}};
    if (report.spacing_known) entry["spacing_mm"] = report.spacing;
    entry["min"] = report.minimum;
    entry["max"] = report.maximum;
    entry["mean"] = report.mean;
    if (!report.voxels.empty()) {
      entry["label_voxels"] = report.voxels;
      entry["label_components"] = report.components;
      entry["foreground_fraction"] = report.foreground_fraction();
    }
    entry["problems"] = report.problems;
    list.push_back(entry);
  }
  return list.dump(1) + "\n";
}

}  // namespace semivox::io
