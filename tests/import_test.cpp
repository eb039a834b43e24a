// The field's own files brought into data set folders, and every way in which they can be wrong.
#include "io/import.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "io/case_cache.hpp"
#include "io/hdf5.hpp"
#include "io/import_prepared.hpp"
#include "io/nifti.hpp"
#include "io/split.hpp"
#include "run_program.hpp"
#include "temporary_folder.hpp"

using namespace semivox;
using namespace semivox::io;
namespace fs = std::filesystem;

namespace {

using Ids = std::vector<std::string>;

Image wave(const Extent3& shape, double phase) {
  Image image{shape, std::vector<float>(static_cast<size_t>(voxel_count(shape))), {}};
  image.geometry.spacing = {1.5, 1.5, 8};
  for (size_t i = 0; i < image.voxels.size(); ++i)
    image.voxels[i] = static_cast<float>(std::sin(phase + 0.1 * static_cast<double>(i)));
  return image;
}

LabelMap stripes(const Extent3& shape, int classes) {
  LabelMap label{shape, std::vector<uint8_t>(static_cast<size_t>(voxel_count(shape))), {}};
  label.geometry.spacing = {1.5, 1.5, 8};
  for (size_t i = 0; i < label.voxels.size(); ++i) label.voxels[i] = static_cast<uint8_t>(i % classes);
  return label;
}

Ids ids(const DatasetFolder& folder, const std::vector<int64_t>& indices) {
  Ids names;
  for (const int64_t i : indices) names.push_back(folder.cases[i].id);
  return names;
}

}  // namespace

TEST_CASE("import: lists of cases") {
  const TemporaryFolder folder;
  write_bytes(folder / "train.list", "b\r\nx/y/a.h5\r\n\r\np_slice_2\np_slice_1\nq_slice_1\n");
  CHECK(read_case_names(folder / "train.list") == Ids{"b", "a", "p", "q"});
  write_bytes(folder / "empty.list", "\n");
  CHECK(mentions(data_error([&] { read_case_names(folder / "empty.list"); }), "empty.list", "empty"));
  CHECK(mentions(data_error([&] { read_case_names(folder / "none.list"); }), "none.list", "cannot be read"));
}

TEST_CASE("import: LA") {
  const TemporaryFolder folder;
  const Extent3 shape{6, 5, 4};
  const std::string scans = folder / "from/2018LA_Seg_Training Set";
  for (const char* id : {"B", "A", "C"}) {
    fs::create_directories(scans + "/" + id);
    const LabelMap label = stripes(shape, 2);
    write_hdf5_case(scans + "/" + id + "/mri_norm2.h5", wave(shape, *id), &label);
  }
  fs::create_directories(folder / "from/other");
  write_bytes(folder / "from/train.list", "B\r\nA\r\n");
  write_bytes(folder / "from/test.list", "C\r\n");
  import_la({folder / "from", folder / "out", "", "", "", false});
  const DatasetFolder set = open_dataset(folder / "out");
  CHECK(ids(set, set.training) == Ids{"B", "A"});
  CHECK(ids(set, set.test) == Ids{"C"});
  CHECK(set.class_names == Ids{"background", "left_atrium"});
  CHECK(normalization_of_channel(set.channels.front()).kind == Normalization::Kind::none);
  const Image image = read_case_channels(set.cases[1]).front();
  CHECK(image.shape == shape);
  CHECK(image.voxels == wave(shape, 'B').voxels);
  CHECK(image.geometry.spacing == std::array<double, 3>{0.625, 0.625, 0.625});
  CHECK(read_case_label(set.cases[1], 2).voxels == stripes(shape, 2).voxels);

  CHECK(mentions(data_error([&] {
                   import_la({folder / "from", folder / "out", "", "", "", false});
                 }),
                 "already holds a data set"));
  write_bytes(folder / "from/train.list", "B\nD\n");
  CHECK(mentions(data_error([&] {
                   import_la({folder / "from", folder / "two", "", "", "", false});
                 }),
                 "train.list", "'D'", "--allow-missing"));
  CHECK(!fs::exists(folder / "two"));
  import_la({folder / "from", folder / "two", "", "", "", true});
  CHECK(ids(open_dataset(folder / "two"), open_dataset(folder / "two").training) == Ids{"B"});
  write_bytes(folder / "from/train.list", "B\nC\n");
  CHECK(mentions(data_error([&] {
                   import_la({folder / "from", folder / "three", "", "", "", false});
                 }),
                 "'C'", "twice"));
  CHECK(mentions(data_error([&] {
                   import_la({folder / "from/other", folder / "x", "", "", "", false});
                 }),
                 "other", "no cases found"));
  CHECK(mentions(data_error([&] {
                   import_la({folder / "nowhere", folder / "x", "", "", "", false});
                 }),
                 "nowhere", "folder not found"));

  // Which of two is meant cannot be known.
  const LabelMap label = stripes(shape, 2);
  write_hdf5_case(folder / "from/other/Z.h5", wave(shape, 0), &label);
  CHECK(mentions(data_error([&] {
                   import_la({folder / "from", folder / "x", "", "", "", true});
                 }),
                 "from/other", "2018LA_Seg_Training Set", "expected one"));
  fs::remove(folder / "from/other/Z.h5");
  write_hdf5_case(scans + "/A.h5", wave(shape, 0), &label);
  CHECK(mentions(data_error([&] {
                   import_la({folder / "from", folder / "x", "", "", "", true});
                 }),
                 "case A", "twice", "A.h5", "A/mri_norm2.h5"));
}

TEST_CASE("import: HDF5 cases with slices first") {
  const TemporaryFolder folder;
  fs::create_directories(folder / "from");
  const Extent3 shape{3, 5, 4};
  const LabelMap label = stripes(shape, 3);
  write_hdf5_case(folder / "from/p1.h5", wave(shape, 1), &label);
  write_hdf5_case(folder / "from/p2.h5", wave(shape, 2), nullptr);
  write_bytes(folder / "val.list", "p1\n");
  const ProgramResult result = run_program(
      "data import-h5 --from " + (folder / "from") + " --out " + (folder / "out") + " --validation " +
      (folder / "val.list") + " --labels background,a,b --axes zyx --spacing 1.5 --slice-spacing 8");
  INFO(result.output);
  CHECK(result.exit_code == 0);
  CHECK(mentions(result.output, "2 cases", "1 for training", "1 for validation", "3 classes"));
  const DatasetFolder set = open_dataset(folder / "out");
  CHECK(ids(set, set.training) == Ids{"p2"});
  CHECK(set.cases[1].label.empty());
  const Image image = read_case_channels(set.cases[0]).front();
  CHECK(image.shape == Extent3{4, 5, 3});
  CHECK(image.geometry.spacing == std::array<double, 3>{1.5, 1.5, 8});
  const Image original = wave(shape, 1);
  const LabelMap imported = read_case_label(set.cases[0], 3);
  for (int64_t s = 0; s < 3; ++s) {
    for (int64_t y = 0; y < 5; ++y) {
      for (int64_t x = 0; x < 4; ++x) {
        const int64_t there = (x * 5 + y) * 3 + s, here = (s * 5 + y) * 4 + x;
        CHECK(image.voxels[there] == original.voxels[here]);
        CHECK(imported.voxels[there] == label.voxels[here]);
      }
    }
  }
  const ProgramResult wrong = run_program("data import-h5 --from " + (folder / "from") + " --out " +
                                          (folder / "x") + " --labels background,a");
  CHECK(wrong.exit_code == 3);
  CHECK(mentions(wrong.output, "p1.h5", "label 2"));
  CHECK(run_program("data import-h5 --from x --out y --labels background").exit_code == 2);
}

TEST_CASE("import: ACDC from the challenge's folders and from volumes in HDF5") {
  const TemporaryFolder folder;
  const Extent3 shape{6, 5, 3};
  const auto write_frame = [&](const char* patient, const char* frame, double phase) {
    const std::string stem =
        folder / (std::string("from/training/") + patient + "/" + patient + "_frame" + frame);
    fs::create_directories(fs::path(stem).parent_path());
    write_nifti_image(stem + ".nii.gz", wave(shape, phase));
    write_nifti_labels(stem + "_gt.nii.gz", stripes(shape, 4));
  };
  write_frame("patient099", "01", 1);
  write_frame("patient099", "09", 2);
  write_frame("patient090", "11", 4);  // frame 04 becomes frame01
  write_frame("patient090", "04", 3);
  write_frame("patient028", "01", 5);
  write_frame("patient028", "10", 6);
  const ImportOptions options{folder / "from", folder / "out", "", "", "", true};
  CHECK(mentions(data_error([&] {
                   import_acdc({options.from, options.out, "", "", "", false});
                 }),
                 "140 cases", "patient038_frame01"));
  import_acdc(options);
  DatasetFolder set = open_dataset(folder / "out");
  CHECK(set.classes() == 4);
  CHECK(ids(set, set.training) ==
        Ids{"patient099_frame01", "patient099_frame02", "patient090_frame01", "patient090_frame02"});
  CHECK(ids(set, set.validation) == Ids{"patient028_frame01", "patient028_frame02"});
  CHECK(read_case_channels(set.cases[set.training[2]]).front().voxels == wave(shape, 3).voxels);
  CHECK(normalization_of_channel(set.channels.front()).kind == Normalization::Kind::minmax);
  const Split split = make_split(set, 1, kAllCases, {CountUnit::patients, {}});
  CHECK(ids(set, split.labeled) == Ids{"patient099_frame01", "patient099_frame02"});

  fs::remove(folder / "from/training/patient090/patient090_frame04_gt.nii.gz");
  CHECK(mentions(data_error([&] {
                   import_acdc({options.from, folder / "x", "", "", "", true});
                 }),
                 "patient090", "1 annotated", "expected 2"));

  fs::remove(folder / "out/dataset.json");  // as if it had not come to its end
  fs::remove_all(folder / "from/training/patient090");
  CHECK(mentions(data_error([&] { import_acdc(options); }), "out/", "patient090_frame0",
                 "no file of this data set"));

  const LabelMap label = stripes({3, 5, 6}, 4);
  fs::create_directories(folder / "h5/data");
  write_hdf5_case(folder / "h5/data/patient099_frame01.h5", wave({3, 5, 6}, 1), &label);
  write_hdf5_case(folder / "h5/data/patient099_frame02.h5", wave({3, 5, 6}, 1), &label);
  import_acdc({folder / "h5", folder / "out2", "", "", "", true});
  set = open_dataset(folder / "out2");
  CHECK(read_case_channels(set.cases[0]).front().shape == Extent3{6, 5, 3});
  CHECK(count_slices(set, set.training, SliceAxis::automatic) == std::vector<int64_t>{3, 3});
  CHECK(mentions(data_error([&] {
                   import_acdc({folder / "out", folder / "x", "", "", "", true});
                 }),
                 "no ACDC data found"));
}

TEST_CASE("import: Pancreas-CT, BraTS and ISLES") {
  const TemporaryFolder folder;
  const Extent3 shape{40, 30, 8};
  fs::create_directories(folder / "ct");
  fs::create_directories(folder / "masks");
  for (const char* number : {"0057", "0050"}) {
    write_nifti_image(folder / (std::string("ct/PANCREAS_") + number + ".nii.gz"), wave(shape, 1));
    write_nifti_labels(folder / (std::string("masks/label") + number + ".nii.gz"), stripes(shape, 2));
  }
  const ProgramResult made =
      run_program("data import-pancreas --allow-missing --from " + (folder / "ct") + " --labels " +
                  (folder / "masks") + " --out " + (folder / "pancreas"));
  INFO(made.output);
  CHECK(made.exit_code == 0);
  DatasetFolder set = open_dataset(folder / "pancreas");
  CHECK(ids(set, set.training) == Ids{"pancreas_0057"});
  CHECK(ids(set, set.test) == Ids{"pancreas_0050"});
  const ProgramResult other =
      run_program("data import-pancreas --allow-missing --pipeline rcps --from " + (folder / "ct") +
                  " --labels " + (folder / "masks") + " --out " + (folder / "pancreas_rcps"));
  INFO(other.output);
  CHECK(other.exit_code == 0);
  CHECK(ids(open_dataset(folder / "pancreas_rcps"), open_dataset(folder / "pancreas_rcps").test) ==
        Ids{"pancreas_0050"});
  CHECK(run_program("data import-pancreas --pipeline dtc --from x --labels x --out x").exit_code == 2);
  fs::remove(folder / "masks/label0050.nii.gz");
  const ImportOptions ct{folder / "ct", folder / "x", "", "", "", true};
  CHECK(mentions(data_error([&] { import_pancreas(ct, folder / "masks", PancreasPipeline::mc_net); }),
                 "masks", "no label", "PANCREAS_0050"));
  write_nifti_image(folder / "ct/odd.nii.gz", wave(shape, 1));
  CHECK(mentions(data_error([&] { import_pancreas(ct, folder / "masks", PancreasPipeline::mc_net); }),
                 "odd.nii.gz", "four digits"));

  for (const char* id : {"BraTS19_B_1", "BraTS19_A_1"}) {
    const std::string stem = folder / (std::string("brats/HGG/") + id + "/" + id);
    fs::create_directories(fs::path(stem).parent_path());
    write_nifti_image(stem + "_flair.nii.gz", wave(shape, 2));
    write_nifti_image(stem + "_t1.nii.gz", wave(shape, 3));
    if (*(id + 8) == 'B') write_nifti_labels(stem + "_seg.nii.gz", stripes(shape, 5));
  }
  import_brats({folder / "brats", folder / "brats_set", "", "", "", false});
  set = open_dataset(folder / "brats_set");
  CHECK(ids(set, set.training) == Ids{"BraTS19_A_1", "BraTS19_B_1"});
  CHECK(set.cases[0].label.empty());
  CHECK(read_case_channels(set.cases[1]).front().shape == Extent3{39, 29, 7});
  CHECK(mentions(data_error([&] {
                   import_brats({folder / "ct", folder / "x", "", "", "", false});
                 }),
                 "CASE_flair.nii.gz"));

  for (const char* number : {"0001", "0002", "0003"}) {
    const std::string id = std::string("sub-strokecase") + number;
    fs::create_directories(folder / ("isles/" + id + "/ses-0001/dwi"));
    fs::create_directories(folder / ("isles/derivatives/" + id + "/ses-0001"));
    write_nifti_image(folder / ("isles/" + id + "/ses-0001/dwi/" + id + "_ses-0001_dwi.nii.gz"),
                      wave(shape, 2));
    write_nifti_labels(folder / ("isles/derivatives/" + id + "/ses-0001/" + id + "_ses-0001_msk.nii.gz"),
                       stripes(shape, 2));
  }
  import_isles({folder / "isles", folder / "isles_set", "", "", "", true}, 0);
  set = open_dataset(folder / "isles_set");
  CHECK(ids(set, set.training) == Ids{"sub-strokecase0003"});
  CHECK(ids(set, set.validation) == Ids{"sub-strokecase0002"});
  CHECK(ids(set, set.test) == Ids{"sub-strokecase0001"});
  CHECK(normalization_of_channel(set.channels.front()).kind == Normalization::Kind::zscore_positive);
}

TEST_CASE("import: the real left-atrium files") {
  const char* path = std::getenv("SEMIVOX_LA");
  if (path == nullptr) {
    MESSAGE("skipped: SEMIVOX_LA names no folder");
    return;
  }
  const TemporaryFolder folder;
  import_la({std::string(path) + "/h5", folder / "out", "", "", "", false});
  const DatasetFolder set = open_dataset(folder / "out"), original = open_dataset(path);
  REQUIRE(set.cases.size() == 2);
  for (const CaseFiles& files : set.cases) {
    const auto same = std::find_if(original.cases.begin(), original.cases.end(),
                                   [&](const CaseFiles& other) { return other.id == files.id; });
    REQUIRE(same != original.cases.end());
    const Image image = read_case_channels(files).front(), stored = read_case_channels(*same).front();
    REQUIRE(image.shape == stored.shape);
    double worst = 0;
    for (size_t i = 0; i < image.voxels.size(); ++i)
      worst = std::max<double>(worst, std::abs(image.voxels[i] - stored.voxels[i]));
    CHECK(worst < 1e-5);  // the folder's integers with their scaling
    CHECK(read_case_label(files, 2).voxels == read_case_label(*same, 2).voxels);
  }
}
