// Statistics over cases, the results files, and `semivox evaluate` on folders, good and bad.
#include "apps/evaluate.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "apps/results.hpp"
#include "io/nifti.hpp"
#include "io/png.hpp"
#include "tests/temporary_folder.hpp"

using namespace semivox;

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

io::LabelMap label_map(const io::Extent3& shape, std::vector<uint8_t> voxels,
                       const std::array<double, 3>& spacing = {1, 1, 1}) {
  io::LabelMap map{shape, std::move(voxels), {}};
  map.geometry.spacing = spacing;
  map.geometry.known = true;
  return map;
}

/// Two folders with the cases `a` and `b` of three classes, 1 x 2 x 5 voxels of 2 x 3 x 4 mm.
struct Folders {
  TemporaryFolder folder;
  EvaluateOptions options;

  Folders() {
    options.prediction = folder / "prediction";
    options.reference = folder / "reference";
    std::filesystem::create_directory(options.prediction);
    std::filesystem::create_directory(options.reference);
    write("prediction/a.nii.gz", {1, 1, 0, 0, 2, 0, 0, 0, 0, 2});
    write("reference/a.nii.gz", {1, 1, 0, 0, 2, 0, 0, 0, 0, 2});
    write("prediction/b.nii.gz", {1, 0, 0, 1, 1, 0, 0, 0, 0, 0});
    write("reference/b.nii.gz", {1, 1, 0, 0, 0, 0, 0, 0, 0, 2});
  }

  void write(const std::string& name, const std::vector<uint8_t>& voxels,
             const io::Extent3& shape = {1, 2, 5}) {
    io::write_nifti_labels(folder / name, label_map(shape, voxels, {2, 3, 4}));
  }
};

std::vector<std::string> lines_of(const std::string& path) {
  std::istringstream in(read_bytes(path));
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

}  // namespace

TEST_CASE("evaluate: statistics leave not-a-number out") {
  const Statistics odd = statistics_of({4, kNaN, 1, 10});
  CHECK(odd.mean == 5);
  CHECK(odd.standard_deviation == std::sqrt(14.0));  // (1 + 16 + 25) / 3
  CHECK(odd.median == 4);
  CHECK(odd.count == 3);
  CHECK(statistics_of({4, 1, 10, 6}).median == 5);
  const Statistics none = statistics_of({kNaN});
  CHECK(std::isnan(none.mean));
  CHECK(std::isnan(none.standard_deviation));
  CHECK(std::isnan(none.median));
  CHECK(none.count == 0);
}

TEST_CASE("evaluate: scores, foreground mean and statistics of two cases") {
  Folders folders;
  folders.options.conventions.empty = EmptyPolicy::nan;
  const Evaluation evaluation = run_evaluate(folders.options);
  REQUIRE(evaluation.cases.size() == 2);
  CHECK(evaluation.cases[0].name == "a");
  REQUIRE(evaluation.cases[1].classes.size() == 2);
  CHECK(evaluation.cases[0].foreground() == std::array<double, kScores>{1, 1, 0, 0});
  const Scores& one = evaluation.cases[1].classes[0];
  CHECK(one.dice == 0.4);                                     // 2 * 1 / (3 + 2)
  CHECK(one.jaccard == 0.25);                                 // 1 / 4
  CHECK(one.asd == doctest::Approx(5.0 / 3).epsilon(1e-15));  // 0, 2, 3
  CHECK(one.hd95 == doctest::Approx(2.8).epsilon(1e-15));     // 0, 0, 1, 2, 3 at position 3.8
  const Scores& two = evaluation.cases[1].classes[1];
  CHECK(two.dice == 0);
  CHECK(std::isnan(two.asd));
  CHECK(evaluation.cases[1].foreground()[0] == 0.2);
  CHECK(evaluation.cases[1].foreground()[3] == one.asd);
  CHECK(evaluation.classes[1][0].mean == 0.5);
  CHECK(evaluation.classes[1][3].count == 1);
  CHECK(evaluation.foreground[0].mean == doctest::Approx(0.6).epsilon(1e-15));
  CHECK(evaluation.foreground[0].standard_deviation == doctest::Approx(0.4).epsilon(1e-15));
}

TEST_CASE("evaluate: millimetres take the reference's spacing") {
  Folders folders;
  folders.options.conventions.units = Units::millimetre;
  folders.options.conventions.empty = EmptyPolicy::diagonal;
  const Evaluation evaluation = run_evaluate(folders.options);
  CHECK(evaluation.cases[1].classes[0].asd == doctest::Approx(4 * 5.0 / 3).epsilon(1e-15));
  CHECK(evaluation.cases[1].classes[1].asd == std::sqrt(4.0 + 36.0 + 400.0));
}

TEST_CASE("evaluate: the largest component of the prediction") {
  Folders folders;
  folders.options.conventions.largest_component = true;
  const Evaluation evaluation = run_evaluate(folders.options);
  CHECK(evaluation.cases[0].classes[1].dice == 1);  // two voxels above each other
  CHECK(evaluation.cases[1].classes[0].dice == 0);  // keeps the pair, which misses
  CHECK(evaluation.cases[1].classes[0].counts.false_positive == 2);
}

TEST_CASE("evaluate: JSON and CSV hold every number and the conventions") {
  Folders folders;
  folders.options.conventions.empty = EmptyPolicy::nan;
  folders.options.json = folders.folder / "results.json";
  folders.options.csv = folders.folder / "results.csv";
  const Evaluation evaluation = run_evaluate(folders.options);
  const auto json = nlohmann::json::parse(read_bytes(folders.options.json));
  CHECK(json["conventions"]["units"] == "voxel");
  CHECK(json["conventions"]["empty"] == "nan");
  CHECK(json["mean"]["dice"] == evaluation.foreground[0].mean);
  CHECK(json["std"]["hd95"] == evaluation.foreground[2].standard_deviation);
  CHECK(json["median"]["asd"] == evaluation.foreground[3].median);
  CHECK(json["classes"][1]["mean"]["dice"] == 0.5);
  CHECK(json["cases"][1]["case"] == "b");
  CHECK(json["cases"][1]["dice"] == 0.2);
  CHECK(json["cases"][1]["classes"][0]["asd"] == evaluation.cases[1].classes[0].asd);
  CHECK(json["cases"][1]["classes"][1]["asd"].is_null());
  CHECK(json["cases"][1]["classes"][0]["true_positive"] == 1);
  CHECK(json["cases"][1]["classes"][0]["false_positive"] == 2);
  CHECK(json["cases"][1]["classes"][0]["false_negative"] == 1);
  CHECK(json["cases"][1]["classes"][0]["true_negative"] == 6);
  const std::vector<std::string> lines = lines_of(folders.options.csv);
  REQUIRE(lines.size() == 1 + 2 * 2 + 3 * 3);
  CHECK(lines[0] ==
        "case,label,dice,jaccard,hd95,asd,true_positive,false_positive,false_negative,true_negative");
  CHECK(lines[1] == "a,1,1,1,0,0,2,0,0,8");
  CHECK(lines[4] == "b,2,0,0,,,0,0,1,9");
  CHECK(mentions(lines[8], "mean,2,0.5,0.5,0,0,,,,"));
  CHECK(mentions(lines[11], "mean,foreground,0.59999999999999998,"));
}

TEST_CASE("evaluate: the table has aligned columns") {
  Folders folders;
  std::istringstream table(format_table(run_evaluate(folders.options)));
  std::string line;
  size_t rows = 0, width = 0;
  while (std::getline(table, line)) {
    if (rows++ == 0) width = line.size();
    CHECK(line.size() == width);
  }
  CHECK(rows == 1 + 1 + 2 + 1 + 3 + 2);
  CHECK(mentions(table.str(), "60.00", "95HD voxel", "class 2 mean"));
}

TEST_CASE("evaluate: other files of the folders are not looked at, uncompressed files are") {
  Folders folders;
  write_bytes(folders.folder / "prediction/a_prob1.nii.gz", "not an image");
  write_bytes(folders.folder / "prediction/notes.txt", "text");
  folders.write("prediction/c.nii", {1, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  folders.write("reference/c.nii.gz", {1, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  CHECK(run_evaluate(folders.options).cases.size() == 3);
}

TEST_CASE("evaluate: bad input is named, and nothing is written") {
  Folders folders;
  folders.options.json = folders.folder / "results.json";
  const auto message = [&] { return data_error([&] { run_evaluate(folders.options); }); };
  SUBCASE("prediction without reference") {
    folders.write("prediction/c.nii.gz", {1, 0, 0, 0, 0, 0, 0, 0, 0, 0});
    CHECK(mentions(message(), "prediction/c.nii.gz", folders.options.reference));
  }
  SUBCASE("reference without prediction") {
    folders.write("reference/c.nii.gz", {1, 0, 0, 0, 0, 0, 0, 0, 0, 0});
    CHECK(mentions(message(), "reference/c.nii.gz", folders.options.prediction, "--subset"));
    folders.options.subset = true;
    folders.options.json.clear();
    CHECK(run_evaluate(folders.options).cases.size() == 2);
  }
  SUBCASE("different shapes") {
    folders.write("prediction/b.nii.gz", {1, 0, 0, 1, 1, 0, 0, 0, 0, 0}, {1, 5, 2});
    CHECK(mentions(message(), "prediction/b.nii.gz", "reference/b.nii.gz", "1 x 5 x 2", "1 x 2 x 5"));
  }
  SUBCASE("label beyond the classes of the references") {
    folders.write("prediction/b.nii.gz", {3, 0, 0, 1, 1, 0, 0, 0, 0, 0});
    CHECK(mentions(message(), "prediction/b.nii.gz", "3"));
  }
  SUBCASE("label beyond the classes given") {
    folders.options.classes = 2;
    CHECK(mentions(message(), "a.nii.gz", "2"));
  }
  SUBCASE("label values with gaps, where every missing class would score as right") {
    folders.write("reference/b.nii.gz", {1, 4, 0, 0, 0, 0, 0, 0, 0, 2});
    CHECK(mentions(message(), "label 4", "nowhere 3", "--classes"));
    folders.options.classes = 5;
    folders.options.json.clear();
    CHECK(run_evaluate(folders.options).cases.size() == 2);
  }
  SUBCASE("two files of one case") {
    folders.write("prediction/a.nii", {1, 0, 0, 0, 0, 0, 0, 0, 0, 0});
    CHECK(mentions(message(), "prediction/a.nii", "prediction/a.nii.gz"));
  }
  SUBCASE("millimetres without a voxel size") {
    folders.options.conventions.units = Units::millimetre;
    for (const std::string& role : {folders.options.prediction, folders.options.reference}) {
      for (const char* name : {"/a.nii.gz", "/b.nii.gz"}) std::filesystem::remove(role + name);
      io::write_png(role + "/a.png", {.height = 1, .width = 2, .channels = 1, .pixels = {0, 1}});
    }
    CHECK(mentions(message(), "reference/a.png", "how large a voxel is", "--units mm"));
  }
  SUBCASE("missing folder") {
    folders.options.reference = folders.folder / "nowhere";
    CHECK(mentions(message(), "nowhere", "not found", "reference folder"));
  }
  SUBCASE("empty folder") {
    std::filesystem::create_directory(folders.folder / "empty");
    folders.options.prediction = folders.folder / "empty";
    CHECK(mentions(message(), "empty", "no .nii.gz, .nii or .png file"));
  }
  SUBCASE("results file in a folder that does not exist") {
    folders.options.json = folders.folder / "missing/results.json";
    CHECK(mentions(message(), "missing"));
  }
  CHECK_FALSE(std::filesystem::exists(folders.folder / "results.json"));
}
