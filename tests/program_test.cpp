// The program as a user runs it: a whole training run and what it leaves, the same again to the last bit,
// killed and resumed, and every kind of bad input.

#include <hdf5.h>
#include <signal.h>
#include <sys/file.h>

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "engine/safetensors.hpp"
#include "io/nifti.hpp"
#include "tests/program_data.hpp"
#include "tests/program_process.hpp"

using namespace semivox;
namespace fs = std::filesystem;

namespace {

/// A run that takes a second. One thread: with little to do, waiting for the other takes longer.
std::string train(const std::string& method, int iterations, const std::string& data = data_set()) {
  return text("train --method ", method, " --data ", data, " --labeled 2 --filters 4 --patch 32x32x16",
              " --batch 2 --iterations ", iterations,
              " --validate-every 0 --checkpoint-every 4 --device cpu --threads 1");
}

const std::string kFinal = "/checkpoints/final.safetensors";

}  // namespace

// What a run leaves -------------------------------------------------------------------------------------

TEST_CASE("program: train, predict, evaluate, methods and info") {
  const TemporaryFolder folder;
  const std::string run_folder = folder / "run";
  const Outcome trained = run(
      folder, train("bcp", 8) + " --set validate_every=4 --save-predictions --profile --out " + run_folder);
  INFO(trained.error);
  REQUIRE(trained.exit_code == 0);
  CHECK(trained.error == "");
  CHECK(mentions(trained.output, "2 labelled, 2 unlabelled, 2 validation", "peak memory",
                 "best validation Dice"));
  for (const char* file :
       {"config.toml", "split.json", "environment.json", "metrics.jsonl", "validation.jsonl",
        "checkpoints/latest.safetensors", "checkpoints/best.safetensors", "checkpoints/final.safetensors",
        "results/validation.json", "results/validation.csv"}) {
    CHECK_MESSAGE(fs::is_regular_file(run_folder + "/" + file), file);
  }
  const std::string metrics = read_bytes(run_folder + "/metrics.jsonl");
  CHECK(lines_in(metrics) == 8);
  std::istringstream lines(metrics);
  int64_t iteration = 0;
  for (std::string line; std::getline(lines, line); ++iteration) {
    const auto json = nlohmann::json::parse(line);
    CHECK(json["iteration"] == iteration);
    CHECK(json["phase"] == (iteration < 2 ? "pretrain" : "selftrain"));
    CHECK(std::isfinite(json["loss"].get<double>()));
  }
  int64_t pictures = 0;
  for (const auto& entry : fs::directory_iterator(run_folder + "/results/predictions"))
    pictures += entry.path().extension() == ".png";
  CHECK(pictures == 2);
  // Nothing temporary stays anywhere.
  for (const auto& entry : fs::recursive_directory_iterator(run_folder))
    CHECK_MESSAGE(entry.path().filename().string().find("tmp") == std::string::npos, entry.path().string());

  // The run predicts the scans, and the prediction can be scored.
  const Outcome predicted =
      run(folder, text("predict --run ", run_folder, " --checkpoint best --input ", data_set(),
                       "/imagesTr --output ", folder / "out", " --device cpu --threads 1"));
  INFO(predicted.error);
  REQUIRE(predicted.exit_code == 0);
  const Outcome scored =
      run(folder, text("evaluate --prediction ", folder / "out", " --reference ", data_set(),
                       "/labelsTr --units voxel --json ", folder / "scores.json"));
  INFO(scored.error);
  REQUIRE(scored.exit_code == 0);
  CHECK(mentions(scored.output, "mean"));
  CHECK(nlohmann::json::parse(read_bytes(folder / "scores.json"))["cases"].size() == 6);

  // One list of the data set, predicted and scored by hand, has the scores of the run.
  const Outcome listed =
      run(folder, text("predict --run ", run_folder, " --largest-component --input ", data_set(),
                       " --list validation --output ", folder / "validation", " --device cpu --threads 1"));
  INFO(listed.error);
  REQUIRE(listed.exit_code == 0);
  const std::string evaluate = text("evaluate --prediction ", folder / "validation", " --reference ",
                                    data_set(), " --json ", folder / "validation.json", " --list ");
  REQUIRE(run(folder, evaluate + "validation").exit_code == 0);
  const auto by_hand = nlohmann::json::parse(read_bytes(folder / "validation.json"));
  const auto by_run = nlohmann::json::parse(read_bytes(run_folder + "/results/validation.json"));
  CHECK(by_hand["cases"].size() == 2);
  CHECK(by_hand["cases"] == by_run["cases"]);
  const Outcome unlisted = run(folder, evaluate + "test");
  CHECK(unlisted.exit_code == 2);
  CHECK(mentions(unlisted.error, "splits.json", "no test case"));

  const Outcome methods = run(folder, "methods");
  CHECK(methods.exit_code == 0);
  CHECK(mentions(methods.output, "supervised", "mean_teacher", "ua_mt", "bcp", "pseudo_weight",
                 "vnet_original"));
  const Outcome info = run(folder, "info");
  CHECK(info.exit_code == 0);
  CHECK(mentions(info.output, "semivox"));
}

TEST_CASE("program: a loss that is no number ends the run with a message") {
  const TemporaryFolder folder;
  const Outcome diverged = run(folder, train("supervised", 8) + " --lr 1e30 --out " + (folder / "run"));
  CHECK(diverged.exit_code == 2);
  CHECK(mentions(diverged.error, "expected a number", "--lr", "no state was saved yet"));
}

TEST_CASE("program: what cannot be trained is refused before the training") {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& arguments, auto... words) {
    const Outcome outcome = run(folder, arguments);
    INFO(arguments, "\n", outcome.error);
    CHECK(outcome.exit_code == 2);
    CHECK(mentions(outcome.error, words...));
  };
  const std::string out = " --out " + (folder / "out");
  refused(train("bcp", 8) + " --set labeled=4" + out, "bcp", "no unlabelled case", "--labeled");
  refused(train("dtc", 8) + " --dims 2" + out, "dtc", "no network for slices");
  refused(train("supervised", 8) + " --unlabeled some" + out, "data.unlabeled", "'some'");
  refused(train("supervised", 8) + " --lr inf" + out, "train.lr", "'inf'");
  for (const std::string dry : {"", " --dry-run"}) {
    refused(train("supervised", 8) + dry + " --stride 64x64x64" + out, "stride", "64x64x64", "32x32x16");
    refused(train("supervised", 8) + dry + " --set window.largest_component=maybe" + out,
            "window.largest_component", "'maybe'");
    refused(train("supervised", 8) + dry + " --report-every 0" + out, "train.report_every", "'0'");
  }
  const std::string compare = text("compare --data ", data_set(), " --labeled 2 --filters 4 --patch 32x32x16",
                                   " --iterations 2 --batch 2 --device cpu", out);
  refused(compare + " --methods supervised,dtc --network vnet", "dtc", "vnet_sdf");
  refused(compare + " --methods supervised,supervised", "--methods", "twice");
  refused(compare + " --methods supervised --seeds 1,1", "--seeds", "twice");
  refused(compare + " --methods supervised --seeds 99999999999999999999", "--seeds", "99999999999999999999");
  CHECK_FALSE(fs::exists(folder / "out"));
}

TEST_CASE("program: one process trains in a folder at a time") {
  const TemporaryFolder folder;
  const std::string out = folder / "run";
  fs::create_directories(out);
  const int held = open((out + "/lock").c_str(), O_RDWR | O_CREAT, 0666);
  REQUIRE(held >= 0);
  REQUIRE(flock(held, LOCK_EX) == 0);
  const Outcome refused = run(folder, train("supervised", 2) + " --out " + out);
  CHECK(refused.exit_code == 2);
  CHECK(mentions(refused.error, out, "another process"));
  close(held);
  CHECK(run(folder, train("supervised", 2) + " --out " + out).exit_code == 0);
  CHECK_FALSE(fs::exists(out + "/lock"));
}

TEST_CASE("program: a dry run tells the peak memory of all phases") {
  const TemporaryFolder folder;
  const auto peak = [](const std::string& output) {
    const size_t begin = output.find("peak memory ");
    REQUIRE(begin != std::string::npos);
    return output.substr(begin, output.find('\n', begin) - begin);
  };
  const Outcome rehearsed = run(folder, train("bcp", 8) + " --dry-run");
  INFO(rehearsed.error);
  REQUIRE(rehearsed.exit_code == 0);
  CHECK(mentions(rehearsed.output, "phase pretrain: 2 iterations of 2 labelled and 0 unlabelled",
                 "phase selftrain: 6 iterations of 2 labelled and 2 unlabelled", "training: about"));
  const Outcome trained = run(folder, train("bcp", 8) + " --profile --out " + (folder / "run"));
  REQUIRE(trained.exit_code == 0);
  CHECK(peak(rehearsed.output) == peak(trained.output));

  const Outcome nowhere = run(folder, train("bcp", 8));
  CHECK(nowhere.exit_code == 2);
  CHECK(mentions(nowhere.error, "--out: missing"));
}

TEST_CASE("program: results go to files, not over devices or scans") {
  const TemporaryFolder folder;
  const std::string run_folder = folder / "run";
  REQUIRE(run(folder, train("supervised", 2) + " --save-predictions --out " + run_folder).exit_code == 0);
  const std::string evaluate = text("evaluate --subset --prediction ", run_folder,
                                    "/results/predictions --reference ", data_set(), "/labelsTr --json ");
  const Outcome device = run(folder, evaluate + "/dev/null");
  CHECK(device.exit_code == 3);
  CHECK(mentions(device.error, "/dev/null", "expected a file"));
  CHECK(fs::is_character_file("/dev/null"));
  fs::create_symlink("target.json", folder / "link.json");
  REQUIRE(run(folder, evaluate + (folder / "link.json")).exit_code == 0);
  CHECK(fs::is_symlink(folder / "link.json"));
  CHECK(fs::is_regular_file(folder / "target.json"));

  fs::create_directory(folder / "scans");
  for (const char* name : {"a.nii.gz", "a_prob1.nii.gz"})
    fs::copy(data_set() + "/imagesTr/synth_000_0000.nii.gz", folder / ("scans/" + std::string(name)));
  const Outcome twice = run(folder, text("predict --probabilities --run ", run_folder, " --input ",
                                         folder / "scans", " --output ", folder / "out", " --device cpu"));
  CHECK(twice.exit_code == 2);
  CHECK(mentions(twice.error, "two cases", "a_prob1.nii.gz"));
}

TEST_CASE("program: double precision is validated and scored like the others") {
  const TemporaryFolder folder;
  const Outcome trained = run(folder, train("supervised", 2) + " --set filters=2 --precision f64 --out " +
                                          (folder / "run") + " --set validate_every=2 --stride 32x32x16");
  INFO(trained.error);
  REQUIRE(trained.exit_code == 0);
  CHECK(lines_in(read_bytes(folder / "run/validation.jsonl")) == 1);
  CHECK(fs::is_regular_file(folder / "run/results/validation.json"));
}

// The same again ----------------------------------------------------------------------------------------

TEST_CASE("program: the same seed gives the same losses and weights, another seed others") {
  const TemporaryFolder folder;
  for (const std::string name : {"a", "b", "c"}) {
    const std::string seed = name == "c" ? " --seed 2" : " --seed 1";
    REQUIRE(run(folder, train("ua_mt", 4) + seed + " --out " + (folder / name)).exit_code == 0);
  }
  CHECK(read_bytes(folder / "a/metrics.jsonl") == read_bytes(folder / "b/metrics.jsonl"));
  CHECK(read_bytes(folder / "a/metrics.jsonl") != read_bytes(folder / "c/metrics.jsonl"));
  const std::string weights = read_bytes(folder / ("a" + kFinal));
  CHECK(weights.size() > 1000);
  CHECK(weights == read_bytes(folder / ("b" + kFinal)));
}

TEST_CASE("program: killed and resumed ends in the same weights, bit for bit") {
  const TemporaryFolder folder;
  std::string method;
  SUBCASE("bcp, killed in both phases") { method = "bcp"; }
  SUBCASE("ua_mt") { method = "ua_mt"; }
  // bcp: 6 + 18. Validations between two checkpoints must not be logged twice.
  const std::string arguments = train(method, 24) + " --set validate_every=3";
  REQUIRE(run(folder, arguments + " --out " + (folder / "whole")).exit_code == 0);

  const std::string out = folder / "killed";
  CHECK(run_until(folder, arguments, out, 5, SIGKILL).exit_code == -1);
  CHECK_FALSE(fs::exists(out + kFinal));
  CHECK(run_until(folder, arguments + " --resume", out, 14, SIGKILL).exit_code == -1);
  CHECK_FALSE(fs::exists(out + kFinal));
  const Outcome resumed = run(folder, arguments + " --resume --out " + out);
  CHECK(resumed.exit_code == 0);
  CHECK(mentions(resumed.output, "resumed after iteration"));
  CHECK(read_bytes(out + kFinal) == read_bytes(folder / ("whole" + kFinal)));
  CHECK(read_bytes(out + "/metrics.jsonl") == read_bytes(folder / "whole/metrics.jsonl"));
  CHECK(read_bytes(out + "/validation.jsonl") == read_bytes(folder / "whole/validation.jsonl"));
}

TEST_CASE("program: SIGTERM saves the state, and --resume insists on the same settings") {
  const TemporaryFolder folder;
  const std::string arguments = train("mean_teacher", 24), out = folder / "run";
  REQUIRE(run(folder, arguments + " --out " + (folder / "whole")).exit_code == 0);
  const Outcome stopped = run_until(folder, arguments, out, 6, SIGTERM);
  CHECK(stopped.exit_code == 5);
  CHECK(lines_in(stopped.error) == 1);
  CHECK(mentions(stopped.error, "stopped after iteration", "latest.safetensors", "--resume"));
  write_bytes(out + "/checkpoints/.final.safetensors.tmp-1234", "what a killed process leaves");

  const std::string config = read_bytes(out + "/config.toml"), metrics = read_bytes(out + "/metrics.jsonl");
  const Outcome other = run(folder, arguments + " --resume --lr 0.02 --out " + out);
  CHECK(other.exit_code == 2);
  CHECK(lines_in(other.error) == 1);
  CHECK(mentions(other.error, "train.lr", "0.01", "0.02"));
  const Outcome option = run(folder, arguments + " --resume --set consistency=0.2 --out " + out);
  CHECK(option.exit_code == 2);
  CHECK(mentions(option.error, "method.consistency", "0.1", "0.2"));
  CHECK(read_bytes(out + "/config.toml") == config);  // a refused continuation changes nothing
  CHECK(read_bytes(out + "/metrics.jsonl") == metrics);

  const Outcome again = run(folder, arguments + " --out " + out);
  CHECK(again.exit_code == 2);
  CHECK(lines_in(again.error) == 1);
  CHECK(mentions(again.error, out, "--resume"));
  CHECK(read_bytes(out + "/metrics.jsonl") == metrics);

  // The run folder's own configuration says the same as the command line did.
  const Outcome resumed =
      run(folder, text("train --resume --config ", out, "/config.toml --threads 1 --out ", out));
  INFO(resumed.error);
  CHECK(resumed.exit_code == 0);
  CHECK(read_bytes(out + kFinal) == read_bytes(folder / ("whole" + kFinal)));
  CHECK_FALSE(fs::exists(out + "/checkpoints/.final.safetensors.tmp-1234"));

  const std::string latest = out + "/checkpoints/latest.safetensors";
  SafetensorsFile state = read_safetensors(latest);
  state.metadata["progress.phase"] = "-1";
  write_safetensors(latest, state);
  const Outcome edited = run(folder, arguments + " --resume --out " + out);
  CHECK(edited.exit_code == 3);
  CHECK(mentions(edited.error, "latest.safetensors", "phase -1"));

  fs::remove(latest);
  const Outcome gone = run(folder, arguments + " --resume --out " + out);
  CHECK(gone.exit_code == 3);
  CHECK(mentions(gone.error, "latest.safetensors", "not found", "final.safetensors"));
}

// Bad input ---------------------------------------------------------------------------------------------

namespace {

/// A copy of the data set that a test may damage.
struct Damaged {
  TemporaryFolder folder;
  std::string data = folder / "data", first_image, first_label;

  Damaged() {
    fs::copy(data_set(), data, fs::copy_options::recursive);
    const auto splits = nlohmann::json::parse(read_bytes(data + "/splits.json"));
    const std::string id = splits["order"][0].get<std::string>();
    first_image = data + "/imagesTr/" + id + "_0000.nii.gz";
    first_label = data + "/labelsTr/" + id + ".nii.gz";
  }

  std::string train() const { return ::train("supervised", 4, data); }

  /// Runs the program, which must fail with this exit code and one line on stderr that has the words, and
  /// leave no run folder.
  template <class... Words>
  void refuses(const std::string& arguments, int exit_code, const Words&... words) const {
    const Outcome outcome = run(folder, arguments + " --out " + (folder / "run"));
    INFO(outcome.error);
    CHECK(outcome.exit_code == exit_code);
    CHECK(lines_in(outcome.error) == 1);
    CHECK(mentions(outcome.error, "semivox: error: ", words...));
    CHECK_FALSE(fs::exists(folder / "run"));
  }
};

}  // namespace

TEST_CASE("bad input: no data folder") {
  const Damaged d;
  const std::string nowhere = d.folder / "nowhere";
  d.refuses(train("supervised", 4, nowhere), 3, nowhere);
}

TEST_CASE("bad input: image and label of different shapes") {
  const Damaged d;
  io::LabelMap label = io::read_nifti_labels(d.first_label, 2);
  label.shape[2] = 16;
  label.voxels.resize(32 * 32 * 16);
  label.geometry = {};
  io::write_nifti_labels(d.first_label, label);
  d.refuses(d.train(), 3, d.first_label, "32x32x16", "32x32x32");
}

TEST_CASE("bad input: a file that is cut off") {
  const Damaged d;
  fs::resize_file(d.first_image, fs::file_size(d.first_image) / 2);
  d.refuses(d.train(), 3, d.first_image);
}

TEST_CASE("bad input: a label value out of range") {
  const Damaged d;
  io::LabelMap label = io::read_nifti_labels(d.first_label, 2);
  label.voxels[1000] = 3;
  io::write_nifti_labels(d.first_label, label);
  d.refuses(d.train(), 3, d.first_label, "label 3", "0 ... 1");
}

TEST_CASE("bad input: voxels that are no numbers") {
  const Damaged d;
  fs::remove(d.first_image);
  io::Image image{{32, 32, 32}, std::vector<float>(32 * 32 * 32, 1.0f), {}};
  const std::string plain = d.folder / "plain.nii";
  io::write_nifti_image(plain, image);
  std::string bytes = read_bytes(plain);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  bytes.replace(352 + 4 * 777, 4, reinterpret_cast<const char*>(&nan), 4);
  write_bytes(d.first_image, bytes);  // not compressed, which readers see by the content
  d.refuses(d.train(), 3, d.first_image, "1 of 32768 voxels are NaN", "(9, 24, 0)");
}

TEST_CASE("bad input: an HDF5 case without image") {
  const Damaged d;
  const std::string data = d.folder / "h5";
  fs::create_directory(data);
  write_bytes(data + "/dataset.json",
              R"({"channel_names": {"0": "MRI"}, "labels": {"background": 0, "organ": 1},
                  "numTraining": 2, "file_ending": ".h5"})");
  for (const char* name : {"/a.h5", "/b.h5"}) {
    const std::vector<float> voxels(32 * 32 * 16);
    const hsize_t sizes[] = {32, 32, 16};
    const hid_t file = H5Fcreate((data + name).c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    const hid_t space = H5Screate_simple(3, sizes, nullptr);
    for (const char* field : {"image", "label"}) {
      if (name[1] == 'b' && field[0] == 'i') continue;
      const hid_t set =
          H5Dcreate2(file, field, H5T_NATIVE_FLOAT, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
      REQUIRE(H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, voxels.data()) >= 0);
      H5Dclose(set);
    }
    H5Sclose(space);
    H5Fclose(file);
  }
  d.refuses(train("supervised", 4, data), 3, data + "/b.h5", "image");
}

TEST_CASE("bad input: weights with a corrupt header") {
  const Damaged d;
  const std::string weights = d.folder / "w.safetensors";
  write_bytes(weights, std::string("\x10\0\0\0\0\0\0\0{\"broken\": [1, 2", 24));
  const Outcome outcome =
      run(d.folder,
          text("predict --weights ", weights, " --network vnet --filters 4 --classes 2 --patch 32x32x16",
               " --device cpu --input ", d.first_image, " --output ", d.folder / "out"));
  CHECK(outcome.exit_code == 3);
  CHECK(lines_in(outcome.error) == 1);
  CHECK(mentions(outcome.error, weights, "header"));
  CHECK_FALSE(fs::exists(d.folder / "out"));
  d.refuses(d.train() + " --init " + weights, 3, weights, "header");
}

TEST_CASE("bad input: unknown methods, options and settings") {
  const Damaged d;
  d.refuses(train("magic", 4, d.data), 2, "method: found 'magic'", "mean_teacher", "ua_mt");
  d.refuses(d.train() + " --set foo=1", 2, "--set", "foo");
  d.refuses(d.train() + " --set pseudo_weight=1", 2, "supervised", "pseudo_weight");  // another method's
  d.refuses(d.train() + " --frobnicate 3", 2, "--frobnicate");
  d.refuses(d.train() + " --set dice_background=perhaps", 2, "dice_background", "perhaps");
  d.refuses(d.train() + " --lr fast", 2, "train.lr", "fast", "number");
  const std::string config = d.folder / "my.toml";
  write_bytes(config, "[train]\nlr = 0.01\niteratons = 5\n");
  d.refuses(d.train() + " --config " + config, 2, config + ":3", "iteratons");
  write_bytes(config, "[train]\nlr = = 3\n");
  d.refuses(d.train() + " --config " + config, 2, config + ":2");
}

TEST_CASE("bad input: a patch that the network cannot halve four times") {
  const Damaged d;
  d.refuses(d.train() + " --set patch=32x32x24", 2, "train.patch", "32x32x24", "16x16x16");
}

TEST_CASE("bad input: more labelled cases than there are") {
  const Damaged d;
  d.refuses(d.train() + " --set labeled=5", 2, "5", "4");
}

TEST_CASE("bad input: an output folder that cannot be made") {
  const Damaged d;
  write_bytes(d.folder / "file", "in the way");
  const std::string out = d.folder / "file/run";
  const Outcome outcome = run(d.folder, d.train() + " --out " + out);
  CHECK(outcome.exit_code == 3);
  CHECK(lines_in(outcome.error) == 1);
  CHECK(mentions(outcome.error, out, "run folder"));
  CHECK(read_bytes(d.folder / "file") == "in the way");
}
