// Data set folders: what is read from them, how they are split, and every way in which one can be broken.
#include "io/dataset.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <set>

#include "io/batch.hpp"
#include "io/case_cache.hpp"
#include "io/data_check.hpp"
#include "io/hdf5.hpp"
#include "io/nifti.hpp"
#include "io/png.hpp"
#include "io/split.hpp"
#include "temporary_folder.hpp"

using namespace semivox;
using namespace semivox::io;
namespace fs = std::filesystem;

namespace {

constexpr const char* kDatasetJson = R"({"name": "toy", "channel_names": {"0": "noNorm"},
 "labels": {"background": 0, "atrium": 1}, "numTraining": 4, "file_ending": ".nii.gz"})";

/// A data set of four cases a, b, c, d of shape (5, 6, 4); d has no label.
struct ToySet {
  TemporaryFolder folder;

  ToySet() {
    fs::create_directories(folder / "imagesTr");
    fs::create_directories(folder / "labelsTr");
    write_bytes(folder / "dataset.json", kDatasetJson);
    for (const char* id : {"b", "a", "d", "c"}) {
      write_nifti_image(image_path(id), image({5, 6, 4}));
      if (*id != 'd') write_nifti_labels(label_path(id), label({5, 6, 4}));
    }
  }

  static Image image(const Extent3& shape) {
    Image image{shape, std::vector<float>(voxel_count(shape)), {}};
    for (size_t i = 0; i < image.voxels.size(); ++i) image.voxels[i] = static_cast<float>(i) * 0.5f - 3;
    return image;
  }
  static LabelMap label(const Extent3& shape) {
    LabelMap label{shape, std::vector<uint8_t>(voxel_count(shape)), {}};
    for (size_t i = 0; i < label.voxels.size(); ++i) label.voxels[i] = i % 3 == 0;
    return label;
  }
  std::string image_path(const std::string& id) const { return folder / ("imagesTr/" + id + "_0000.nii.gz"); }
  std::string label_path(const std::string& id) const { return folder / ("labelsTr/" + id + ".nii.gz"); }
  DatasetFolder open() const { return open_dataset(folder / ""); }

  /// The message of opening the set after `json` became dataset.json.
  std::string error_with(const std::string& json) const {
    write_bytes(folder / "dataset.json", json);
    return data_error([&] { open(); });
  }
  /// The message of opening the set after `json` became splits.json.
  std::string error_with_splits(const std::string& json) const {
    write_bytes(folder / "splits.json", json);
    return data_error([&] { open(); });
  }
};

std::vector<std::string> ids(const DatasetFolder& folder, const std::vector<int64_t>& indices) {
  std::vector<std::string> result;
  for (const int64_t i : indices) result.push_back(folder.cases[i].id);
  return result;
}

using Ids = std::vector<std::string>;

std::string usage_error(const DatasetFolder& folder, int64_t labeled, int64_t unlabeled = kAllCases) {
  try {
    make_split(folder, labeled, unlabeled);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

std::string replaced(std::string in, const std::string& from, const std::string& to) {
  const size_t at = in.find(from);
  REQUIRE(at != std::string::npos);
  return in.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("dataset: cases, classes and splits") {
  const ToySet set;
  DatasetFolder folder = set.open();
  CHECK(folder.name == "toy");
  CHECK(folder.channels == Ids{"noNorm"});
  CHECK(folder.class_names == Ids{"background", "atrium"});
  CHECK(ids(folder, folder.training) == Ids{"a", "b", "c", "d"});
  CHECK(folder.cases[3].label.empty());

  Split split = make_split(folder, kAllCases);
  CHECK(ids(folder, split.labeled) == Ids{"a", "b", "c"});
  CHECK(ids(folder, split.unlabeled) == Ids{"d"});
  CHECK(mentions(describe(folder, split), "3 labelled", "1 unlabelled", "1 cases have no label file"));

  write_bytes(set.folder / "splits.json",
              R"({"order": ["d", "c", "b", "a"], "validation": ["b"], "note": "x"})");
  folder = set.open();
  split = make_split(folder, 1);
  CHECK(ids(folder, split.labeled) == Ids{"c"});  // d comes first but has no label
  CHECK(ids(folder, split.unlabeled) == Ids{"d", "a"});
  CHECK(ids(folder, split.validation) == Ids{"b"});
  CHECK(ids(folder, make_split(folder, 1, 1).unlabeled) == Ids{"d"});

  write_bytes(set.folder / "splits.json", R"({"order": ["c", "b"], "test": ["a"]})");
  folder = set.open();
  CHECK(ids(folder, folder.training) == Ids{"c", "b"});
  CHECK(mentions(describe(folder, make_split(folder, 1)), "1 cases are not in splits.json"));
}

TEST_CASE("dataset: counts that the set cannot serve") {
  const ToySet set;
  const DatasetFolder folder = set.open();
  CHECK(mentions(usage_error(folder, 4), "--labeled 4", "1...3", folder.path));
  CHECK(mentions(usage_error(folder, 0), "--labeled 0", "1...3"));
  CHECK(mentions(usage_error(folder, 2, 3), "--unlabeled 3", "0...2"));
  CHECK(usage_error(folder, 3) == "");
}

TEST_CASE("dataset: broken folders and dataset.json") {
  const ToySet set;
  const std::string file = set.folder / "dataset.json", good = kDatasetJson;
  CHECK(mentions(data_error([&] { open_dataset(set.folder / "nowhere"); }), "nowhere", "folder not found"));
  CHECK(mentions(set.error_with("{ \"name\""), file, "not valid JSON"));
  CHECK(mentions(set.error_with("[]"), file, "expected an object"));
  CHECK(mentions(set.error_with(replaced(good, "labels", "lables")), file, "'labels' is missing"));
  CHECK(mentions(set.error_with(replaced(good, "file_ending", "ending")), file, "'file_ending' is missing"));
  CHECK(mentions(set.error_with(replaced(good, ".nii.gz", ".mha")), file, "'file_ending'", ".mha",
                 "expected .nii.gz"));
  CHECK(mentions(set.error_with(replaced(good, "channel_names", "modality")), file,
                 "'channel_names' is missing"));
  CHECK(mentions(set.error_with(replaced(good, "\"noNorm\"}", "\"T1\", \"2\": \"T2\"}")), file,
                 "'channel_names'", "T2"));
  CHECK(mentions(set.error_with(replaced(good, "\"noNorm\"}", "\"T1\", \"1\": \"T2\"}")), "a_0001.nii.gz",
                 "not found", "2 channels of case a"));
  CHECK(mentions(set.error_with(replaced(good, "\"atrium\": 1", "\"atrium\": 2")), file, "'labels.atrium'",
                 "2", "0...1"));
  CHECK(mentions(set.error_with(replaced(good, "\"atrium\": 1", "\"atrium\": \"1\"")), file,
                 "'labels.atrium'"));
  CHECK(mentions(set.error_with(replaced(good, "\"atrium\": 1", "\"atrium\": 0")), file,
                 "both have the value 0"));
  CHECK(mentions(
      set.error_with(replaced(good, "\"background\": 0, \"atrium\": 1", "\"background\": 1, \"atrium\": 0")),
      file, "'labels.background'", "found 1", "expected 0"));
  CHECK(mentions(set.error_with(replaced(good, ", \"atrium\": 1", "")), file, "'labels'",
                 "at least one class"));
  CHECK(mentions(set.error_with(replaced(good, "\"numTraining\": 4", "\"numTraining\": 80")), file,
                 "'numTraining'", "80", "4 images", "3 of them"));
  CHECK(mentions(set.error_with(replaced(good, "\"numTraining\": 4", "\"numTraining\": \"4\"")),
                 "'numTraining'"));
  CHECK(set.error_with(good) == "");
  fs::remove(file);
  CHECK(mentions(data_error([&] { set.open(); }), file, "cannot be read"));
}

TEST_CASE("dataset: files that do not belong together") {
  const ToySet set;
  write_nifti_labels(set.label_path("e"), ToySet::label({5, 6, 4}));
  CHECK(mentions(data_error([&] { set.open(); }), set.label_path("e"), "label without image",
                 set.image_path("e")));
  fs::remove(set.label_path("e"));

  const std::string odd = set.folder / "imagesTr/odd.nii.gz";
  write_nifti_image(odd, ToySet::image({2, 2, 2}));
  CHECK(mentions(data_error([&] { set.open(); }), odd, "expected CASE_0000.nii.gz"));
  fs::remove(odd);

  fs::remove_all(set.folder / "imagesTr");
  CHECK(mentions(data_error([&] { set.open(); }), "imagesTr", "folder not found"));
  fs::create_directories(set.folder / "imagesTr");
  fs::remove_all(set.folder / "labelsTr");
  CHECK(mentions(data_error([&] { set.open(); }), "no cases found"));
}

TEST_CASE("dataset: broken splits.json") {
  const ToySet set;
  const std::string file = set.folder / "splits.json";
  CHECK(mentions(set.error_with_splits("{"), file, "not valid JSON"));
  CHECK(mentions(set.error_with_splits(R"({"order": "a"})"), file, "'order'", "expected a list"));
  CHECK(mentions(set.error_with_splits(R"({"order": [1]})"), file, "'order'", "expected the name of a case"));
  CHECK(mentions(set.error_with_splits(R"({"order": ["a", "z"]})"), file, "'order'", "'z'", "not in"));
  CHECK(mentions(set.error_with_splits(R"({"order": ["a", "b", "a"]})"), file, "'order'", "'a' twice"));
  CHECK(mentions(set.error_with_splits(R"({"validation": ["a"], "test": ["a"]})"), file, "'a'", "both"));
  CHECK(mentions(set.error_with_splits(R"({"validation": ["d"]})"), file, "'d'", "no label"));
  CHECK(mentions(set.error_with_splits(R"({"order": ["a"], "validation": ["a"]})"), file, "no case is left"));
  CHECK(mentions(set.error_with_splits(R"({"validaton": ["a"]})"), file, "'validaton'", "validation"));
  CHECK(set.error_with_splits(R"({"order": ["a", "b"]})") == "");
}

TEST_CASE("dataset: cases that cannot be decoded") {
  const ToySet set;
  const DatasetFolder folder = set.open();
  const auto load = [&](const Preparation& preparation = {}) {
    return data_error([&] { load_cases(folder, folder.training, Labels::read, preparation, Device{}); });
  };
  CHECK(load() == "");

  write_nifti_labels(set.label_path("b"), ToySet::label({5, 6, 3}));
  CHECK(mentions(load(), set.image_path("b"), "5x6x4", set.label_path("b"), "5x6x3"));

  LabelMap wild = ToySet::label({5, 6, 4});
  wild.voxels[7] = 2;
  write_nifti_labels(set.label_path("b"), wild);
  CHECK(mentions(load(), set.label_path("b"), "2"));
  write_nifti_labels(set.label_path("b"), ToySet::label({5, 6, 4}));

  Image with_nan = ToySet::image({5, 6, 4});
  with_nan.voxels[11] = std::nanf("");
  write_nifti_image(set.image_path("c"), with_nan);
  CHECK(mentions(load(), set.image_path("c"), "NaN"));

  const std::string bytes = read_bytes(set.image_path("a"));
  write_bytes(set.image_path("a"), bytes.substr(0, bytes.size() / 2));
  CHECK(
      mentions(load(), set.image_path("a")));  // the first broken case in list order is the one that is named
  Preparation resampled;
  resampled.spacing = {2, 2, 2};
  CHECK(mentions(load(resampled), set.image_path("a")));
}

TEST_CASE("dataset: HDF5 cases") {
  const TemporaryFolder folder;
  write_bytes(folder / "dataset.json", replaced(kDatasetJson, ".nii.gz", ".h5"));
  const Image image = ToySet::image({5, 6, 4});
  const LabelMap label = ToySet::label({5, 6, 4});
  write_hdf5_case(folder / "a.h5", image, &label);
  fs::create_directories(folder / "b");
  write_hdf5_case(folder / "b/mri_norm2.h5", image, &label);
  write_hdf5_case(folder / "c.h5", image, nullptr);
  fs::create_directories(folder / "d");
  write_hdf5_case(folder / "d/mri_norm2.h5", image, &label);
  const DatasetFolder set = open_dataset(folder / "");
  CHECK(ids(set, set.training) == Ids{"a", "b", "c", "d"});
  CHECK(ids(set, make_split(set, kAllCases).unlabeled) == Ids{"c"});

  const auto cases = load_cases(set, set.training, Labels::read, {}, Device{});
  CHECK(cases[1].image.to_doubles() == std::vector<double>(image.voxels.begin(), image.voxels.end()));
  CHECK(cases[1].label.to_doubles() == std::vector<double>(label.voxels.begin(), label.voxels.end()));
  CHECK(!cases[2].label.defined());

  Preparation resampled;
  resampled.spacing = {2, 2, 2};
  CHECK(mentions(data_error([&] { load_cases(set, set.training, Labels::read, resampled, Device{}); }),
                 "a.h5", "spacing"));

  write_hdf5_case(folder / "d.h5", image, &label);
  CHECK(mentions(data_error([&] { open_dataset(folder / ""); }), "case d", "twice", "d.h5", "mri_norm2.h5"));
}

TEST_CASE("dataset: a hidden label is not even opened") {
  const ToySet set;
  const DatasetFolder folder = set.open();
  write_bytes(set.label_path("a"), "not a label");
  const auto cases = load_cases(folder, {0, 1}, Labels::hide, {}, Device{});
  CHECK(!cases[0].label.defined());
  CHECK(!cases[1].label.defined());
}

TEST_CASE("dataset: preparation resamples image and label to the same grid") {
  const ToySet set;
  const DatasetFolder folder = set.open();
  Preparation preparation;
  preparation.spacing = {2, 1, 0.5};
  preparation.normalization = parse_normalizations("zscore");
  const auto cases = load_cases(folder, {0}, Labels::read, preparation, Device{});
  CHECK(cases[0].shape == Extent3{3, 6, 8});
  CHECK(cases[0].input_shape == Extent3{5, 6, 4});
  CHECK(cases[0].image.shape() == Shape{1, 1, 3, 6, 8});
  CHECK(cases[0].label.shape() == Shape{1, 1, 3, 6, 8});
  CHECK(cases[0].image.dtype() == DType::f32);
}

TEST_CASE("dataset: several channels per case") {
  const ToySet set;
  write_bytes(set.folder / "dataset.json",
              replaced(kDatasetJson, "\"noNorm\"}", "\"noNorm\", \"1\": \"rescale_to_0_1\"}"));
  const auto second = [&](const std::string& id) { return set.folder / ("imagesTr/" + id + "_0001.nii.gz"); };
  for (const char* id : {"a", "b", "c", "d"}) write_nifti_image(second(id), ToySet::image({5, 6, 4}));
  const DatasetFolder folder = set.open();
  CHECK(folder.channels == Ids{"noNorm", "rescale_to_0_1"});
  CHECK(folder.cases[0].images == Ids{set.image_path("a"), second("a")});
  Preparation preparation{parse_normalizations("none,minmax"), {0, 0, 0}, SliceAxis::none};
  const auto cases = load_cases(folder, {0, 1}, Labels::read, preparation, Device{});
  CHECK(cases[0].image.shape() == Shape{1, 2, 5, 6, 4});
  const Batch batch = make_batch({&cases[0], &cases[1]}, {4, 4, 2}, AugmentMode::rotflip, 1, 0);
  CHECK(batch.image.shape() == Shape{2, 2, 4, 4, 2});
  CHECK(batch.label.shape() == Shape{2, 1, 4, 4, 2});
  const Tensor whole = whole_image(cases[0]);
  for (int64_t i = 0; i < 120; ++i) {
    const double value = static_cast<double>(i) * 0.5 - 3;
    CHECK(whole.data<float>()[2 * i] == doctest::Approx(value));
    CHECK(whole.data<float>()[2 * i + 1] == doctest::Approx((value + 3) / 59.5));
  }
  preparation.normalization = parse_normalizations("none,minmax,zscore");
  CHECK_THROWS_AS(load_cases(folder, {0}, Labels::read, preparation, Device{}), UsageError);
  preparation.normalization = parse_normalizations("zscore");  // one for all
  CHECK(load_cases(folder, {0}, Labels::hide, preparation, Device{})[0].image.dtype() == DType::f32);

  write_nifti_image(second("b"), ToySet::image({5, 6, 3}));
  CHECK(mentions(data_error([&] {
                   load_cases(folder, {0, 1}, Labels::hide, preparation, Device{});
                 }),
                 set.image_path("b"), "5x6x4", second("b"), "5x6x3"));
  write_nifti_image(set.folder / "imagesTr/b_0002.nii.gz", ToySet::image({5, 6, 4}));
  CHECK(mentions(data_error([&] { set.open(); }), "b_0002.nii.gz", "CASE_0000.nii.gz to CASE_0001.nii.gz"));
}

TEST_CASE("dataset: pictures") {
  const TemporaryFolder folder;
  fs::create_directories(folder / "imagesTr");
  fs::create_directories(folder / "labelsTr");
  write_bytes(folder / "dataset.json", R"({"channel_names": {"0": "R", "1": "G", "2": "B"},
 "labels": {"background": 0, "vessel": 1}, "numTraining": 2, "file_ending": ".png"})");
  Picture colour{4, 5, 3, std::vector<uint8_t>(60)}, gray{4, 5, 1, std::vector<uint8_t>(20)};
  for (size_t i = 0; i < 60; ++i) colour.pixels[i] = static_cast<uint8_t>(4 * i);
  for (size_t i = 0; i < 20; ++i) gray.pixels[i] = i % 2;
  for (const char* id : {"a", "b"}) {
    write_png(folder / (std::string("imagesTr/") + id + "_0000.png"), colour);
    write_png(folder / (std::string("labelsTr/") + id + ".png"), gray);
  }
  const DatasetFolder set = open_dataset(folder / "");
  CHECK(count_slices(set, set.training, SliceAxis::automatic) == std::vector<int64_t>{1, 1});
  std::vector<Normalization> normalization;
  for (const std::string& channel : set.channels) normalization.push_back(normalization_of_channel(channel));
  const Preparation preparation{normalization, {0, 0, 0}, SliceAxis::automatic};
  const auto cases = load_cases(set, {0, 1}, Labels::read, preparation, Device{});
  CHECK(cases[0].image.shape() == Shape{1, 3, 1, 4, 5});
  CHECK(cases[0].label.shape() == Shape{1, 1, 1, 4, 5});
  for (int64_t i = 0; i < 60; ++i)
    CHECK(cases[1].image.data<float>()[i] == doctest::Approx(4.0 * static_cast<double>(i) / 255));
  for (int64_t i = 0; i < 20; ++i) CHECK(cases[1].label.data<uint8_t>()[i] == i % 2);

  const auto load = [&] {
    return data_error([&] { load_cases(set, {0, 1}, Labels::read, preparation, Device{}); });
  };
  write_png(folder / "labelsTr/b.png", colour);
  CHECK(mentions(load(), "b.png", "3 channels", "gray"));
  gray.pixels[7] = 255;
  write_png(folder / "labelsTr/b.png", gray);
  CHECK(mentions(load(), "b.png", "255"));
  write_png(folder / "imagesTr/a_0000.png", gray);
  CHECK(mentions(load(), "a_0000.png", "1 channels", "expected 3"));
  const std::vector<CaseReport> reports = inspect_dataset(set, GeometryCheck::compare);
  REQUIRE(reports[0].problems.size() == 1);
  CHECK(mentions(reports[0].problems[0], "a_0000.png", "1 channels", "expected 3"));
}

TEST_CASE("dataset: counts of patients and slices") {
  const TemporaryFolder folder;
  fs::create_directories(folder / "imagesTr");
  fs::create_directories(folder / "labelsTr");
  write_bytes(folder / "dataset.json", replaced(kDatasetJson, "\"numTraining\": 4", "\"numTraining\": 5"));
  const std::pair<const char*, int64_t> cases[] = {
      {"p1_a", 3}, {"p1_b", 4}, {"p2_a", 2}, {"p2_b", 5}, {"p3_a", 6}};
  for (const auto& [id, slices] : cases) {
    write_nifti_image(folder / (std::string("imagesTr/") + id + "_0000.nii.gz"),
                      ToySet::image({4, 4, slices}));
    write_nifti_labels(folder / (std::string("labelsTr/") + id + ".nii.gz"), ToySet::label({4, 4, slices}));
  }
  write_bytes(folder / "splits.json", R"({"order": ["p2_b", "p2_a", "p1_a", "p1_b", "p3_a"]})");
  const DatasetFolder set = open_dataset(folder / "");
  const CaseCounts patients{CountUnit::patients, {}};
  const CaseCounts slices{CountUnit::slices, count_slices(set, set.training, SliceAxis::automatic)};
  CHECK(slices.slices == std::vector<int64_t>{3, 4, 2, 5, 6});
  CHECK(ids(set, make_split(set, 1, kAllCases, patients).labeled) == Ids{"p2_b", "p2_a"});
  CHECK(ids(set, make_split(set, 2, 1, patients).unlabeled) == Ids{"p3_a"});
  CHECK(ids(set, make_split(set, 1, 1, patients).unlabeled) == Ids{"p1_a", "p1_b"});
  CHECK(make_split(set, 1, 0, patients).unlabeled.empty());
  CHECK(ids(set, make_split(set, 7, kAllCases, slices).labeled) == Ids{"p2_b", "p2_a"});
  CHECK(ids(set, make_split(set, 7, 7, slices).unlabeled) == Ids{"p1_a", "p1_b"});
  const auto error = [&](int64_t labeled, const CaseCounts& counts) -> std::string {
    try {
      make_split(set, labeled, kAllCases, counts);
    } catch (const UsageError& problem) {
      return problem.what();
    }
    return "";
  };
  CHECK(mentions(error(8, slices), "--labeled 8 slices", "7 or 10"));
  CHECK(mentions(error(2, slices), "--labeled 2 slices", "such as 5"));
  CHECK(mentions(error(21, slices), "1...20"));
  CHECK(mentions(error(4, patients), "--labeled 4 patients", "1...3"));
  CHECK(parse_count_unit("slices") == CountUnit::slices);
  CHECK_THROWS_AS(parse_count_unit("scans"), UsageError);
}

TEST_CASE("dataset: slices come first in the cache") {
  const ToySet set;
  const DatasetFolder folder = set.open();
  const Preparation preparation{{}, {0, 0, 0}, SliceAxis::automatic};
  const CachedCase cached = load_cases(folder, {0}, Labels::read, preparation, Device{})[0];
  CHECK(cached.shape == Extent3{4, 5, 6});
  CHECK(cached.slice_axis == 2);
  CHECK(cached.input_shape == Extent3{5, 6, 4});
  CHECK(array_shape(cached) == Extent3{5, 6, 4});
  const Image image = ToySet::image({5, 6, 4});
  const LabelMap label = ToySet::label({5, 6, 4});
  for (int64_t k = 0; k < 4; ++k) {
    for (int64_t v = 0; v < 30; ++v) {
      CHECK(cached.image.data<float>()[k * 30 + v] == image.voxels[v * 4 + k]);
      CHECK(cached.label.data<uint8_t>()[k * 30 + v] == label.voxels[v * 4 + k]);
    }
  }
  const std::vector<std::byte> back = in_array_order(cached, cached.label.raw(), 1);
  CHECK(std::equal(back.begin(), back.end(), reinterpret_cast<const std::byte*>(label.voxels.data())));
}

TEST_CASE("dataset: the real left-atrium scans") {
  const char* path = std::getenv("SEMIVOX_LA");
  if (path == nullptr) {
    MESSAGE("skipped: SEMIVOX_LA names no folder");
    return;
  }
  const DatasetFolder folder = open_dataset(path);
  CHECK(folder.cases.size() == 80);
  CHECK(folder.classes() == 2);
  CHECK(normalization_of_channel(folder.channels.front()).kind == Normalization::Kind::none);
  const Split split = make_split(folder, 8);
  CHECK(split.labeled.size() == 8);
  CHECK(split.unlabeled.size() == 62);
  CHECK(split.validation.size() == 10);
  CHECK(folder.cases[split.labeled[0]].id == "06SR5RBREL16DQ6M8LWS");
  CHECK(folder.cases[split.labeled[7]].id == "38CWS74285MFGZZXR09Z");
  CHECK(folder.cases[split.validation[0]].id == "P1OTI3IWJUIB5NRLULLH");

  // Every fourth case, in the integers of its file, has the shape and foreground range of the published
  // statistics.
  std::vector<int64_t> some;
  for (int64_t i = 0; i < 80; i += 4) some.push_back(i);
  const auto cases = load_cases(folder, some, Labels::read, {}, Device{});
  for (const CachedCase& cached : cases) {
    CHECK(cached.image.dtype() == DType::u8);
    CHECK(cached.shape[2] == 88);
    CHECK(cached.shape[0] >= 148);
    CHECK(cached.shape[1] >= 132);
    const uint8_t* label = cached.label.data<uint8_t>();
    int64_t foreground = 0;
    for (int64_t i = 0; i < cached.label.elements(); ++i) foreground += label[i];
    CHECK(foreground >= 76299);
    CHECK(foreground <= 540940);
  }

  // The field's own HDF5 file of a case: the same voxels as the NIfTI file with its scaling.
  const std::string id = "06SR5RBREL16DQ6M8LWS";
  const Image original = read_hdf5_image(text(path, "/h5/", id, "/mri_norm2.h5"));
  const Tensor image = whole_image(load_cases(folder, {split.labeled[0]}, Labels::hide, {}, Device{})[0]);
  REQUIRE(image.elements() == voxel_count(original.shape));
  double worst = 0;
  for (int64_t i = 0; i < image.elements(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(image.data<float>()[i]) - original.voxels[i]));
  }
  CHECK(worst < 1e-5);
}
