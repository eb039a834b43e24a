// The look at every case: counts of a sound data set, and each kind of fault reported without stopping at the
// first.
#include "io/data_check.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "io/hdf5.hpp"
#include "io/nifti.hpp"
#include "io/synth.hpp"
#include "temporary_folder.hpp"

using namespace semivox;
using namespace semivox::io;

namespace {

constexpr Extent3 kShape{6, 5, 4};

Image ramp(const std::array<double, 3>& spacing = {1, 1, 2}) {
  Image image{kShape, std::vector<float>(voxel_count(kShape)), {spacing, true, nullptr}};
  for (size_t i = 0; i < image.voxels.size(); ++i) image.voxels[i] = static_cast<float>(i);
  return image;
}

/// Two single voxels of class 1 far from each other, and a bar of three voxels of class 2.
LabelMap marks(const std::array<double, 3>& spacing = {1, 1, 2}) {
  LabelMap label{kShape, std::vector<uint8_t>(voxel_count(kShape)), {spacing, true, nullptr}};
  label.voxels[0] = label.voxels[119] = 1;
  label.voxels[60] = label.voxels[61] = label.voxels[62] = 2;
  return label;
}

struct CaseOnDisk {
  TemporaryFolder folder;
  CaseFiles files{"case", {folder / "image.nii.gz"}, folder / "label.nii.gz"};

  CaseOnDisk(const Image& image, const LabelMap& label) {
    write_nifti_image(files.images.front(), image);
    write_nifti_labels(files.label, label);
  }
  CaseReport inspect(GeometryCheck geometry = GeometryCheck::compare) const {
    return inspect_case(files, 3, geometry);
  }
};

}  // namespace

TEST_CASE("data check: a sound case") {
  const CaseOnDisk disk(ramp(), marks());
  const CaseReport report = disk.inspect();
  CHECK(report.problems.empty());
  CHECK(report.shape == kShape);
  CHECK(report.spacing == std::array<double, 3>{1, 1, 2});
  CHECK(report.minimum == 0);
  CHECK(report.maximum == 119);
  CHECK(report.mean == doctest::Approx(59.5));
  CHECK(report.voxels == std::vector<int64_t>{115, 2, 3});
  CHECK(report.components == std::vector<int64_t>{0, 2, 1});
  CHECK(report.foreground_fraction() == doctest::Approx(5.0 / 120));

  const CaseReport unlabeled =
      inspect_case({"case", {disk.files.images.front()}, ""}, 3, GeometryCheck::compare);
  CHECK(!unlabeled.labeled);
  CHECK(unlabeled.problems.empty());
  CHECK(unlabeled.voxels.empty());
}

TEST_CASE("data check: every fault is found") {
  {
    const CaseOnDisk disk(ramp(), marks({1, 1, 2.5}));
    REQUIRE(disk.inspect().problems.size() == 1);
    CHECK(mentions(disk.inspect().problems[0], "spacing", disk.files.images.front(), "1x1x2 mm",
                   disk.files.label, "1x1x2.5 mm"));
    CHECK(disk.inspect(GeometryCheck::ignore).problems.empty());
  }
  {
    LabelMap label = marks();
    label.shape = {5, 6, 4};
    const CaseOnDisk disk(ramp(), label);
    REQUIRE(disk.inspect(GeometryCheck::ignore).problems.size() == 1);
    CHECK(
        mentions(disk.inspect().problems[0], disk.files.images.front(), "6x5x4", disk.files.label, "5x6x4"));
  }
  {
    Image image = ramp();
    image.voxels[3] = std::nanf("");
    LabelMap label = marks();
    label.voxels[5] = 9;
    const CaseOnDisk disk(image, label);  // both files are bad, and both are named
    const CaseReport report = disk.inspect();
    REQUIRE(report.problems.size() == 2);
    CHECK(mentions(report.problems[0], disk.files.images.front(), "NaN"));
    CHECK(mentions(report.problems[1], disk.files.label, "9"));
  }
  {
    Image image = ramp();
    image.voxels.assign(image.voxels.size(), 4);
    const CaseOnDisk disk(image, marks());
    REQUIRE(disk.inspect().problems.size() == 1);
    CHECK(mentions(disk.inspect().problems[0], disk.files.images.front(), "every voxel is 4"));
  }
  {
    const CaseOnDisk disk(ramp(), marks());
    const std::string bytes = read_bytes(disk.files.label);
    write_bytes(disk.files.label, bytes.substr(0, bytes.size() - 12));
    REQUIRE(disk.inspect().problems.size() == 1);
    CHECK(mentions(disk.inspect().problems[0], disk.files.label));
  }
}

TEST_CASE("data check: a label that lies elsewhere in the world") {
  const CaseOnDisk disk(ramp(), marks());
  // sform offset x: a float at byte 292 of the NIfTI-1 header, in an uncompressed copy.
  const std::string plain = disk.folder / "label.nii";
  write_nifti_labels(plain, marks());
  std::string bytes = read_bytes(plain);
  float offset = 0;
  std::memcpy(&offset, bytes.data() + 292, sizeof offset);
  offset += 3;
  std::memcpy(bytes.data() + 292, &offset, sizeof offset);
  write_bytes(plain, bytes);
  const CaseFiles moved{"case", {disk.files.images.front()}, plain};
  const CaseReport report = inspect_case(moved, 3, GeometryCheck::compare);
  REQUIRE(report.problems.size() == 1);
  CHECK(mentions(report.problems[0], "place", plain, "3 mm apart"));
  CHECK(inspect_case(moved, 3, GeometryCheck::ignore).problems.empty());
}

TEST_CASE("data check: table and JSON of a whole set") {
  const TemporaryFolder folder;
  write_synthetic_dataset(folder / "set", {.cases = 3, .size = {24, 20, 16}, .seed = 1, .spacing = 4});
  const auto reports = inspect_dataset(open_dataset(folder / "set"), GeometryCheck::compare);
  REQUIRE(reports.size() == 3);
  for (const CaseReport& report : reports) CHECK(report.problems.empty());
  const std::string table = format_reports(reports);
  CHECK(mentions(table, "synth_002", "24x20x16", "4x4x4"));
  CHECK(std::count(table.begin(), table.end(), '\n') == 4);
  const auto json = nlohmann::json::parse(reports_json(reports));
  CHECK(json.size() == 3);
  CHECK(json[1]["case"] == "synth_001");
  CHECK(json[1]["shape"] == std::vector<int64_t>{24, 20, 16});
  CHECK(json[1]["label_voxels"][1].get<int64_t>() == reports[1].voxels[1]);
}

TEST_CASE("data check: goes on after HDF5 files that cannot be opened") {
  const TemporaryFolder folder;
  write_bytes(folder / "dataset.json",
              R"({"name": "h5", "channel_names": {"0": "noNorm"}, "labels": {"background": 0, "a": 1, "b": 2},
                  "numTraining": 3, "file_ending": ".h5"})");
  const LabelMap label = marks();
  for (const char* name : {"a.h5", "b.h5", "c.h5"}) write_hdf5_case(folder / name, ramp(), &label);
  for (const char* name : {"a.h5", "b.h5"})
    write_bytes(folder / name, read_bytes(folder / name).substr(0, 600));
  const auto reports = inspect_dataset(open_dataset(folder / ""), GeometryCheck::compare);
  REQUIRE(reports.size() == 3);
  for (size_t i = 0; i < 2; ++i) {
    REQUIRE(reports[i].problems.size() == 1);
    CHECK(mentions(reports[i].problems[0], i == 0 ? "a.h5" : "b.h5"));
  }
  CHECK(reports[2].problems.empty());
  CHECK(reports[2].voxels == std::vector<int64_t>{115, 2, 3});
}
