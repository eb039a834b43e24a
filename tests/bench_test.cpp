// `semivox bench` on tiny sizes: the JSON that it writes is complete and consistent. Speeds are not judged.
#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/run_program.hpp"
#include "tests/temporary_folder.hpp"

using namespace semivox;
using Json = nlohmann::json;

namespace {

Json bench(const std::string& arguments, std::string* output = nullptr) {
  const TemporaryFolder folder;
  const std::string file = folder / "bench.json";
  const ProgramResult result = run_program("bench " + arguments + " --device cpu --json " + file);
  CAPTURE(result.output);
  REQUIRE(result.exit_code == 0);
  if (output != nullptr) *output = result.output;
  Json report = Json::parse(std::ifstream(file));
  CHECK(!report["environment"]["device"].get<std::string>().empty());
  CHECK(!report["environment"]["date"].get<std::string>().empty());
  return report;
}

}  // namespace

TEST_CASE("bench step: medians and peak memory of a supervised step") {
  std::string output;
  const Json report =
      bench("step --network vnet --filters 4 --patch 16x16x32 --batch 2 --iterations 3 --profile", &output);
  CHECK(report["benchmark"] == "step");
  CHECK(report["settings"]["patch"] == Json({16, 16, 32}));
  const Json& seconds = report["median_seconds"];
  for (const char* part : {"forward", "backward", "update"}) {
    CHECK(seconds[part] > 0.0);
    CHECK(seconds[part] < seconds["step"]);
  }
  const Json& peak = report["peak_bytes"];
  // Weights, gradients and the momentum of 592,000 parameters are what they must be at least.
  CHECK(peak["weights"] > 2 * 4 * 590000);
  CHECK(peak["optimizer"] > 4 * 590000);
  CHECK(peak["activations"] > 2 * 16 * 16 * 32 * 4 * 4);
  CHECK(peak["total"] >= peak["weights"].get<int64_t>() + peak["optimizer"].get<int64_t>());
  CHECK(mentions(output, "conv.forward", "conv.backward_weights", "norm.apply", "sgd"));
}

TEST_CASE("bench step: whole iterations of a method") {
  const Json report = bench("step --method bcp --filters 4 --patch 16x16x16 --batch 4 --iterations 1");
  CHECK(report["method"] == "bcp");
  CHECK(report["labeled"].get<int>() + report["unlabeled"].get<int>() >= 4);
  CHECK(report["median_seconds"]["iteration"] > 0.0);
}

TEST_CASE("bench layers: the shapes and the arithmetic of the V-Net") {
  const Json report = bench("layers --filters 16 --patch 16x16x16 --batch 1 --iterations 1");
  double gflop = 0;
  int layers = 0;
  for (const Json& layer : report["layers"]) {
    gflop += layer["count"].get<double>() * layer["gflop"].get<double>();
    layers += layer["count"].get<int>();
    CHECK(layer["forward_ms"] > 0.0);
    CHECK(layer["backward_weights_ms"] > 0.0);
    CHECK(layer["backward_data_ms"].is_null() == (layer["layer"] == "conv 1->16 3^3"));
  }
  CHECK(layers == 30);
  // 40.11 GMAC for a 112x112x80 patch, linear in the voxels.
  CHECK(gflop == doctest::Approx(2 * 40.11 * 4096 / 1003520).epsilon(2e-4));
  const ProgramResult odd = run_program("bench layers --patch 16x24x16");
  CHECK(odd.exit_code == 2);
  CHECK(mentions(odd.output, "--patch", "16x24x16", "16x16x16"));
}

TEST_CASE("bench kernels: a rate and a share of the copy's for each") {
  const Json report = bench("kernels --filters 4 --patch 16x16x16 --batch 1 --iterations 1");
  const Json& kernels = report["kernels"];
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
