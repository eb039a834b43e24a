// Data set folders: what is read from them, how they are split, and every way in which one can be broken.
#include "io/dataset.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <set>

#include "io/batch.hpp"
#include "io/case_cache.hpp"
#include "io/hdf5.hpp"
#include "io/nifti.hpp"
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
  CHECK(folder.channel == "noNorm");
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
  CHECK(mentions(set.error_with(replaced(good, "\"noNorm\"}", "\"T1\", \"1\": \"T2\"}")), file,
                 "'channel_names'", "T2"));
  CHECK(mentions(set.error_with(replaced(good, "\"atrium\": 1", "\"atrium\": 2")), file, "'labels.atrium'",
                 "2", "0...1"));
  CHECK(mentions(set.error_with(replaced(good, "\"atrium\": 1", "\"atrium\": \"1\"")), file,
                 "'labels.atrium'"));
  CHECK(mentions(set.error_with(replaced(good, "\"atrium\": 1", "\"atrium\": 0")), file,
                 "both have the value 0"));
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
  preparation.normalization = parse_normalization("zscore");
  const auto cases = load_cases(folder, {0}, Labels::read, preparation, Device{});
  CHECK(cases[0].shape == Extent3{3, 6, 8});
  CHECK(cases[0].input_shape == Extent3{5, 6, 4});
  CHECK(cases[0].image.shape() == Shape{1, 1, 3, 6, 8});
  CHECK(cases[0].label.shape() == Shape{1, 1, 3, 6, 8});
  CHECK(cases[0].image.dtype() == DType::f32);
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
  CHECK(normalization_of_channel(folder.channel).kind == Normalization::Kind::none);
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
