// The program on slices: 2D networks trained, resumed, used and scored on whole volumes, and wrong
// combinations of options.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/error.hpp"
#include "io/case_reader.hpp"
#include "io/nifti.hpp"
#include "io/png.hpp"
#include "io/synth_slices.hpp"
#include "run_program.hpp"
#include "temporary_folder.hpp"

using namespace semivox;
namespace fs = std::filesystem;

namespace {

/// Six stacks of four slices, 48 x 40 pixels, four classes; four for training.
const std::string& slices() {
  static const TemporaryFolder folder;
  static const std::string path = [] {
    io::write_synthetic_slices(folder / "data", {.cases = 6, .size = {48, 40, 4}, .spacing = 3});
    return folder / "data";
  }();
  return path;
}

std::string train(const std::string& method, int iterations, const std::string& more = "") {
  return text("train --dims 2 --method ", method, " --data ", slices(),
              " --labeled 2 --filters 4 --patch 32x32", " --batch 4 --iterations ", iterations,
              " --validate-every 0 --checkpoint-every 4 --device cpu --threads 1 ", more);
}

std::vector<double> losses(const std::string& run) {
  std::vector<double> values;
  std::istringstream lines(read_bytes(run + "/metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) values.push_back(nlohmann::json::parse(line)["loss"]);
  return values;
}

double mean(const std::vector<double>& values, size_t first, size_t count) {
  double sum = 0;
  for (size_t i = first; i < first + count; ++i) sum += values[i];
  return sum / static_cast<double>(count);
}

const std::string kFinal = "/checkpoints/final.safetensors";

}  // namespace

TEST_CASE("program, slices: train, predict and evaluate with four classes") {
  const TemporaryFolder folder;
  const std::string run = folder / "run";
  const ProgramResult trained =
      run_program(train("supervised", 40, "--save-predictions --set validate_every=20 --out " + run));
  INFO(trained.output);
  REQUIRE(trained.exit_code == 0);
  CHECK(mentions(trained.output, "2 labelled, 0 unlabelled, 2 validation", "4 classes",
                 "slices: 8 labelled, 0 unlabelled", "class 3 mean"));
  const std::vector<double> loss = losses(run);
  REQUIRE(loss.size() == 40);
  CHECK(mean(loss, 30, 10) < 0.8 * mean(loss, 0, 10));
  const auto results = nlohmann::json::parse(read_bytes(run + "/results/validation.json"));
  CHECK(results["classes"].size() == 3);
  const io::DatasetFolder set = io::open_dataset(slices());
  const std::string id = set.cases[set.validation[0]].id;
  const io::LabelMap kept = io::read_nifti_labels(run + "/results/predictions/" + id + ".nii.gz", 4);
  CHECK(kept.shape == io::Extent3{48, 40, 4});

  // `predict` knows from the weights that the network takes zoomed slices, and agrees with the evaluation.
  // The evaluation after training keeps the largest components by default.
  const ProgramResult predicted =
      run_program("predict --run " + run + " --input " + slices() + "/imagesTr/" + id +
                  "_0000.nii.gz --output " + (folder / "out") + " --probabilities --device cpu --threads 1");
  INFO(predicted.output);
  REQUIRE(predicted.exit_code == 0);
  CHECK(mentions(predicted.output, "48x40x4", "4 windows"));
  const io::LabelMap again = io::read_nifti_labels(folder / ("out/" + id + ".nii.gz"), 4);
  CHECK(again.voxels == kept.voxels);
  CHECK(fs::is_regular_file(folder / ("out/" + id + "_prob3.nii.gz")));
  const ProgramResult scored = run_program("evaluate --prediction " + (folder / "out") + " --reference " +
                                           slices() + "/labelsTr --subset --classes 4");
  CHECK(scored.exit_code == 0);
  CHECK(mentions(scored.output, "class 1 mean", "class 2 mean", "class 3 mean"));
}

TEST_CASE("program, slices: semi-supervised methods") {
  const TemporaryFolder folder;
  for (const char* method : {"bcp", "mean_teacher"}) {
    const std::string run = folder / method;
    const ProgramResult trained = run_program(train(method, 6, text("--out ", run)));
    INFO(trained.output);
    REQUIRE(trained.exit_code == 0);
    CHECK(mentions(trained.output, "slices: 8 labelled, 8 unlabelled"));
    for (const double loss : losses(run)) CHECK(std::isfinite(loss));
  }
}

TEST_CASE("program, slices: a resumed run equals an uninterrupted one, and every run its repetition") {
  const TemporaryFolder folder;
  const std::string whole = folder / "whole", parts = folder / "parts";
  REQUIRE(run_program(train("bcp", 8, "--out " + whole)).exit_code == 0);
  REQUIRE(run_program(train("bcp", 8, "--out " + parts)).exit_code == 0);
  CHECK(read_bytes(whole + kFinal) == read_bytes(parts + kFinal));
  // Back to the state after the first phase; the log is cut there.
  fs::remove_all(parts);
  const ProgramResult dumped = run_program(train("bcp", 8, "--dump-every 4 --out " + parts));
  CHECK(dumped.exit_code == 0);
  CHECK(fs::is_regular_file(parts + "/dumps/iteration_000004.safetensors"));
  CHECK(read_bytes(whole + kFinal) == read_bytes(parts + kFinal));
  const ProgramResult other = run_program(train("bcp", 8, "--fit crop --resume --out " + parts));
  CHECK(other.exit_code != 0);
  CHECK(mentions(other.output, "data.fit"));
}

TEST_CASE("program, slices: crops and windows in the plane") {
  const TemporaryFolder folder;
  const ProgramResult trained =
      run_program(train("supervised", 3, "--fit crop --augment rotflip --out " + (folder / "run")));
  INFO(trained.output);
  REQUIRE(trained.exit_code == 0);
  const ProgramResult predicted =
      run_program("predict --run " + (folder / "run") + " --input " + slices() + "/imagesTr --output " +
                  (folder / "out") + " --stride 1x16x16 --device cpu --threads 1");
  INFO(predicted.output);
  CHECK(predicted.exit_code == 0);
  CHECK(mentions(predicted.output, "48x40x4, 16 windows"));  // 2 x 2 per slice
}

TEST_CASE("program, slices: counts of patients and slices") {
  const TemporaryFolder folder;
  const ProgramResult counted = run_program(
      train("mean_teacher", 1, "--set labeled=12 --labeled-unit slices --out " + (folder / "run")));
  INFO(counted.output);
  CHECK(counted.exit_code == 0);
  CHECK(mentions(counted.output, "3 labelled, 1 unlabelled", "slices: 12 labelled, 4 unlabelled"));
  const ProgramResult odd = run_program(
      train("mean_teacher", 1, "--set labeled=10 --labeled-unit slices --out " + (folder / "odd")));
  CHECK(odd.exit_code == 2);
  CHECK(mentions(odd.output, "--labeled 10 slices", "8 or 12"));
}

TEST_CASE("program, slices: colour pictures") {
  const TemporaryFolder folder;
  fs::create_directories(folder / "set/imagesTr");
  fs::create_directories(folder / "set/labelsTr");
  write_bytes(folder / "set/dataset.json", R"({"channel_names": {"0": "R", "1": "G", "2": "B"},
 "labels": {"background": 0, "vessel": 1}, "numTraining": 4, "file_ending": ".png"})");
  write_bytes(folder / "set/splits.json", R"({"order": ["a", "b", "c", "d"], "validation": ["d"]})");
  for (const char* id : {"a", "b", "c", "d"}) {
    io::Picture colour{40, 48, 3, {}}, label{40, 48, 1, {}};
    for (int64_t i = 0; i < 40 * 48; ++i) {
      const bool vessel = (i / 48 + i % 48 + *id) % 12 < 4;
      label.pixels.push_back(vessel);
      for (int64_t c = 0; c < 3; ++c)
        colour.pixels.push_back(static_cast<uint8_t>(60 + (vessel ? 90 : 0) + 7 * ((i * (c + 3)) % 9)));
    }
    io::write_png(folder / text("set/imagesTr/", id, "_0000.png"), colour);
    io::write_png(folder / text("set/labelsTr/", id, ".png"), label);
  }
  const ProgramResult trained = run_program(text(
      "train --dims 2 --method supervised --data ", folder / "set", " --labeled 2 --filters 4 --patch 32x32",
      " --fit crop --batch 2 --iterations 3 --validate-every 0 --device cpu --threads 1 --out ",
      folder / "run"));
  INFO(trained.output);
  REQUIRE(trained.exit_code == 0);
  const ProgramResult predicted =
      run_program(text("predict --run ", folder / "run", " --input ", folder / "set/imagesTr", " --output ",
                       folder / "out", " --device cpu --threads 1"));
  INFO(predicted.output);
  REQUIRE(predicted.exit_code == 0);
  CHECK(io::read_nifti_labels(folder / "out/d.nii.gz", 2).shape == io::Extent3{1, 40, 48});
  const ProgramResult scored = run_program(text("evaluate --prediction ", folder / "out", " --reference ",
                                                folder / "set/labelsTr", " --classes 2"));
  INFO(scored.output);
  CHECK(scored.exit_code == 0);
  CHECK(mentions(run_program(text("data check ", folder / "set")).output, "4 cases, no problems"));
}

TEST_CASE("program, slices: options that do not go together") {
  const TemporaryFolder folder;
  const auto refuses = [&](const std::string& arguments, const std::vector<std::string>& words) {
    const ProgramResult result = run_program(arguments + " --out " + (folder / "x"));
    INFO(result.output);
    CHECK(result.exit_code == 2);
    for (const std::string& word : words) CHECK_MESSAGE(mentions(result.output, word), word);
    CHECK(!fs::exists(folder / "x"));
  };
  const std::string base = "train --method supervised --labeled 2 --device cpu --data " + slices();
  refuses(base + " --dims 4", {"data.dims", "2 or 3"});
  refuses(base + " --dims 2 --patch 32x32x16", {"train.patch", "256x256"});
  refuses(base + " --dims 2 --patch 40x32", {"train.patch", "multiples of 1x16x16"});
  refuses(base + " --dims 2 --network vnet", {"train.patch", "vnet"});
  refuses(base + " --augment rotate", {"data.augment", "slices"});
  refuses(base + " --dims 2 --fit stretch", {"fit", "zoom or crop"});
  refuses(base + " --dims 2 --set slice_axis=3", {"slice_axis", "auto"});
  refuses(base + " --labeled-unit slices", {"labeled_unit", "data.dims = 2"});
  refuses(base + " --labeled-unit scans", {"labeled_unit", "patients"});
  refuses(base + " --dims 2 --normalize zscore,zscore --filters 2 --patch 32x32",
          {"normalize", "1 channels"});
}

TEST_CASE("program, slices: the real ACDC set") {
  const char* path = std::getenv("SEMIVOX_ACDC");
  if (path == nullptr) {
    MESSAGE("skipped: SEMIVOX_ACDC names no folder");
    return;
  }
  const TemporaryFolder folder;
  const ProgramResult trained = run_program(text(
      "train --dims 2 --method supervised --data ", path, " --labeled 136 --labeled-unit slices --filters 4",
      " --patch 64x64 --batch 4 --iterations 2 --validate-every 0 --device cpu --out ", folder / "run"));
  INFO(trained.output);
  CHECK(trained.exit_code == 0);
  CHECK(mentions(trained.output, "14 labelled, 0 unlabelled, 20 validation", "slices: 136 labelled"));
}
