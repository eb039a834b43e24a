// `semivox bench` on tiny sizes: the JSON that it writes is complete and consistent. Speeds are not judged.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "methods/method.hpp"
#include "tests/run_program.hpp"
#include "tests/temporary_folder.hpp"

using namespace semivox;
using Json = nlohmann::ordered_json;  // the fields of a row have an order in the CSV

namespace {

/// The JSON report of `semivox bench <arguments>`. Its CSV has the same rows: a line of names, then as many
/// lines.
Json bench(const std::string& arguments, std::string* output = nullptr) {
  const TemporaryFolder folder;
  const std::string file = folder / "bench.json", table = folder / "bench.csv";
  const ProgramResult result = run_program("bench " + arguments + " --json " + file + " --csv " + table);
  CAPTURE(result.output);
  REQUIRE(result.exit_code == 0);
  if (output != nullptr) *output = result.output;
  Json report = Json::parse(std::ifstream(file));
  CHECK(!report["environment"]["device"].get<std::string>().empty());
  CHECK(!report["environment"]["date"].get<std::string>().empty());
  std::string names;
  for (const auto& [name, value] : report["rows"][0].items()) names += (names.empty() ? "" : ",") + name;
  std::ifstream csv(table);
  std::string line;
  std::getline(csv, line);
  CHECK(line == names);
  size_t lines = 0;
  while (std::getline(csv, line)) ++lines;
  CHECK(lines == report["rows"].size());
  return report;
}

/// The row whose `field` is `value`.
Json row(const Json& report, const std::string& field, const std::string& value) {
  for (const Json& one : report["rows"]) {
    if (one[field] == value) return one;
  }
  FAIL("no row with " << field << " " << value << " in " << report.dump());
  return {};
}

}  // namespace

TEST_CASE("bench step: medians, arithmetic and peak memory of a supervised step") {
  std::string output;
  const Json report = bench(
      "step --network vnet --filters 4 --patch 16x16x32 --batch 2 --iterations 3 --device cpu --profile",
      &output);
  CHECK(report["benchmark"] == "step");
  CHECK(report["settings"]["patch"] == Json({16, 16, 32}));
  CHECK(report["settings"]["mode"] == "train");
  const Json step = row(report, "part", "step");
  double gflop = 0;
  for (const char* part : {"forward", "backward", "update"}) {
    const Json one = row(report, "part", part);
    CHECK(one["seconds"] > 0.0);
    CHECK(one["seconds"] < step["seconds"]);
    if (!one["gflop"].is_null()) gflop += one["gflop"].get<double>();
  }
  CHECK(gflop == doctest::Approx(step["gflop"].get<double>()));
  CHECK(step["gflop_per_second"].get<double>() == doctest::Approx(gflop / step["seconds"].get<double>()));
  const Json& peak = report["peak_bytes"];
  // Weights, gradients and the momentum of 592,000 parameters are what they must be at least.
  CHECK(peak["weights"] > 2 * 4 * 590000);
  CHECK(peak["optimizer"] > 4 * 590000);
  CHECK(peak["activations"] > 2 * 16 * 16 * 32 * 4 * 4);
  CHECK(peak["total"] >= peak["weights"].get<int64_t>() + peak["optimizer"].get<int64_t>());
  CHECK(mentions(output, "conv.forward", "conv.backward_weights", "norm.apply", "sgd"));
}

TEST_CASE("bench step: an evaluation forward needs neither gradients nor the optimizer") {
  const std::string size = " --filters 4 --patch 16x16x32 --batch 2 --iterations 1 --device cpu";
  const Json train = bench("step" + size), eval = bench("step --mode eval" + size);
  CHECK(eval["settings"]["mode"] == "eval");
  REQUIRE(eval["rows"].size() == 1);
  CHECK(eval["rows"][0]["gflop"] == row(train, "part", "forward")["gflop"]);
  CHECK(eval["peak_bytes"]["optimizer"] == 0);
  CHECK(eval["peak_bytes"]["weights"] < train["peak_bytes"]["weights"]);
  CHECK(eval["peak_bytes"]["activations"] < train["peak_bytes"]["activations"]);
  const ProgramResult both = run_program("bench step --mode eval --method bcp");
  CHECK(both.exit_code == 2);
  CHECK(mentions(both.output, "--mode", "eval", "--method"));
}

TEST_CASE("bench step: whole iterations of a method") {
  const Json report =
      bench("step --method bcp --filters 4 --patch 16x16x16 --batch 4 --iterations 1 --device cpu");
  CHECK(report["settings"]["method"] == "bcp");
  CHECK(report["labeled"].get<int>() + report["unlabeled"].get<int>() >= 4);
  CHECK(row(report, "part", "iteration")["seconds"] > 0.0);
}

TEST_CASE("bench methods: every method beside supervised training, on volumes and on slices") {
  const Json volumes =
      bench("methods --filters 2 --patch 16x16x16 --batch 4 --iterations 1 --device cpu")["rows"];
  CHECK(volumes.size() == registered_methods().size());
  CHECK(volumes[0]["method"] == "supervised");
  CHECK(volumes[0]["times_supervised"] == 1);
  for (const Json& row : volumes) {
    CHECK(row["seconds"].get<double>() > 0);
    CHECK(row["peak_times_supervised"].get<double>() > 0);
  }
  const Json slices = bench(
      "methods --network unet2d --filters 2 --patch 1x32x32 --batch 4 --iterations 1 --device cpu")["rows"];
  CHECK(slices.size() < volumes.size());
  for (const Json& row : slices) CHECK(row["network"] != "vnet");
}

TEST_CASE("bench scaling: one row per patch") {
  const Json report =
      bench("scaling --filters 4 --patches 16x16x16,32x16x16 --iterations 1 --device cpu --batch 1");
  CHECK(report["settings"]["patches"] == Json({{16, 16, 16}, {32, 16, 16}}));
  REQUIRE(report["rows"].size() == 2);
  for (const Json& one : report["rows"]) {
    const double voxels = one["voxels"];
    CHECK(one["ns_per_voxel"].get<double>() == doctest::Approx(one["seconds"].get<double>() * 1e9 / voxels));
    CHECK(one["bytes_per_voxel"].get<double>() * voxels < one["peak_bytes"].get<double>());
  }
  CHECK(report["rows"][1]["voxels"] == 32 * 16 * 16);
  const ProgramResult wrong = run_program("bench scaling --patches 16x16x16,16");
  CHECK(wrong.exit_code == 2);
  CHECK(mentions(wrong.output, "--patches", "'16'", "DxHxW"));
}

TEST_CASE("bench layers: the shapes and the arithmetic of the V-Net") {
  const Json report = bench("layers --filters 16 --patch 16x16x16 --batch 1 --iterations 1 --device cpu");
  const double ceiling = report["ceiling_gflop_per_second"];
  CHECK(ceiling > 0.0);
  double gflop = 0;
  int layers = 0;
  for (const Json& layer : report["rows"]) {
    gflop += layer["count"].get<double>() * layer["gflop"].get<double>();
    layers += layer["count"].get<int>();
    CHECK(layer["backward_weights_ms"] > 0.0);
    CHECK(layer["backward_data_ms"].is_null() == (layer["layer"] == "conv 1->16 3^3"));
    CHECK(layer["forward_share"].get<double>() ==
          doctest::Approx(layer["gflop"].get<double>() / layer["forward_ms"].get<double>() * 1e3 / ceiling));
  }
  CHECK(layers == 30);
  // 40.11 GMAC for a 112x112x80 patch, linear in the voxels.
  CHECK(gflop == doctest::Approx(2 * 40.11 * 4096 / 1003520).epsilon(2e-4));
  const ProgramResult odd = run_program("bench layers --patch 16x24x16");
  CHECK(odd.exit_code == 2);
  CHECK(mentions(odd.output, "--patch", "16x24x16", "16x16x16"));
}

TEST_CASE("bench kernels: a rate and a share of the copy's for each") {
  const Json report = bench("kernels --filters 4 --patch 16x16x16 --batch 1 --iterations 1 --device cpu");
  const Json& kernels = report["rows"];
  CHECK(kernels.size() >= 24);
  CHECK(kernels[0]["kernel"] == "copy");
  const double copy_rate = kernels[0]["gb_per_second"];
  for (const Json& kernel : kernels) {
    CAPTURE(kernel["kernel"].get<std::string>());
    const double rate = kernel["gb_per_second"];
    CHECK(rate == doctest::Approx(kernel["bytes"].get<double>() / kernel["ms"].get<double>() * 1e-6));
    CHECK(kernel["share_of_copy"].get<double>() == doctest::Approx(rate / copy_rate));
  }
}

TEST_CASE("bench contrast: both losses, in less memory than a matrix of all pairs") {
  const Json rows = bench("contrast --patch 64x64x64 --batch 2 --iterations 1 --device cpu")["rows"];
  REQUIRE(rows.size() == 2);
  for (const Json& row : rows) {
    CHECK(row["forward_ms"].get<double>() > 0);
    CHECK(row["backward_ms"].get<double>() > 0);
  }
  CHECK(rows[1]["bytes_beyond_operands"].get<int64_t>() < int64_t{4096} * 4096 * 4);
}

TEST_CASE("bench: --filter keeps the rows whose name contains the word, and the copy") {
  const std::string size = " --filters 4 --patch 16x16x16 --batch 1 --iterations 1 --device cpu";
  const Json kernels = bench("kernels --filter softmax" + size)["rows"];
  REQUIRE(kernels.size() >= 2);
  CHECK(kernels[0]["kernel"] == "copy");
  for (size_t i = 1; i < kernels.size(); ++i) {
    CHECK(mentions(kernels[i]["kernel"].get<std::string>(), "softmax"));
  }
  const Json layers = bench("layers --filter down" + size)["rows"];
  CHECK(layers.size() == 4);
  for (const char* benchmark : {"kernels", "layers"}) {
    const ProgramResult none = run_program(std::string("bench ") + benchmark + " --filter nonsense" + size);
    CHECK(none.exit_code == 2);
    CHECK(mentions(none.output, "--filter", "'nonsense'"));
  }
}

TEST_CASE("bench data: synthetic scans and a folder") {
  const Json synthetic =
      bench("data --cases 3 --size 24x20x16 --patch 16x16x16 --batch 2 --iterations 2 --device cpu");
  CHECK(synthetic["cases"] == 3);
  CHECK(synthetic["cached_bytes"] == 3 * 24 * 20 * 16 * (4 + 1));  // normalised f32 images, u8 labels
  const Json& rows = synthetic["rows"];
  REQUIRE(rows.size() == 2);
  CHECK(rows[0]["bytes"] == synthetic["cached_bytes"]);
  CHECK(rows[1]["bytes"] == 2 * 16 * 16 * 16 * (4 + 1));  // f32 images, u8 labels
  CHECK(rows[1]["per_second"].get<double>() == doctest::Approx(1e3 / rows[1]["ms"].get<double>()));

  const TemporaryFolder folder;
  REQUIRE(run_program("data synth --out " + (folder / "set") + " --cases 4 --size 24x20x16").exit_code == 0);
  const Json read =
      bench("data --data " + (folder / "set") + " --patch 16x16x16 --iterations 1 --device cpu");
  CHECK(read["cases"] == 4);
  uintmax_t bytes = 0;
  for (const char* part : {"set/imagesTr", "set/labelsTr"}) {
    for (const auto& file : std::filesystem::directory_iterator(folder / part)) bytes += file.file_size();
  }
  CHECK(read["file_bytes"] == bytes);
  CHECK(run_program("bench data --data " + (folder / "missing")).exit_code == 3);
}

TEST_CASE("bench metrics: synthetic maps, and the scores of files") {
  const Json synthetic = bench("metrics --size 32x24x20 --iterations 1");
  CHECK(synthetic["shape"] == Json({32, 24, 20}));
  CHECK(synthetic["scores"]["dice"] > 0.1);
  CHECK(synthetic["scores"]["dice"] < 1.0);
  for (const Json& one : synthetic["rows"]) CHECK(one["ms"] > 0.0);

  const TemporaryFolder folder;
  REQUIRE(run_program("data synth --out " + (folder / "set") + " --cases 3 --size 24x20x16").exit_code == 0);
  const std::string label = folder / "set/labelsTr/synth_000.nii.gz";
  const Json same = bench("metrics --iterations 1 --prediction " + label + " --reference " + label);
  CHECK(same["scores"]["dice"] == 1.0);
  CHECK(same["scores"]["asd"] == 0.0);
  CHECK(run_program("bench metrics --reference " + label).exit_code == 2);
}

TEST_CASE("bench predict: the windows of a scan") {
  const std::string size = " --filters 4 --size 32x24x20 --patch 16x16x16 --stride 8x8x8 --device cpu";
  const Json windows = bench("predict" + size), whole = bench("predict --whole-volume" + size);
  CHECK(windows["rows"][0]["windows"] == 3 * 2 * 2);
  CHECK(whole["rows"][0]["windows"] == 1);
  CHECK(windows["rows"][0]["seconds"] > 0.0);
  CHECK(windows["rows"][0]["peak_bytes"] > 4 * 590000);
}
