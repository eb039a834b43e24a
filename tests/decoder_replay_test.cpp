// URPC, MC-Net, MC-Net+ and RCPS, five iterations in f64, held against PyTorch: every number that they log,
// and the norm of every tensor of the network afterwards. tests/goldens/make_decoder_replay.py made the
// numbers and says what data, weights and settings belong to them.
#include <doctest/doctest.h>

#include "tests/method_check.hpp"
#include "tests/replay_check.hpp"

using namespace semivox;
using namespace semivox::testing;
using nlohmann::json;

namespace {

constexpr int64_t kSamples = 4, kLabeled = 2;

void replay(const std::string& name, const std::string& method_name, NetworkOptions network,
            const std::map<std::string, std::string>& options) {
  const json golden = read_replay("decoder_replay.json", name);
  const OneThread one_thread;
  network.filters = 2;
  network.dropout = 0;
  MethodSetup setup;
  setup.network = network;
  setup.precision = DType::f64;
  setup.optimizer.weight_decay = 0.01;
  setup.iterations = static_cast<int64_t>(golden["iterations"].size());
  setup.batch = kSamples;
  const auto method = build_method(method_name, options, setup);
  fill_by_fan(method->student().parameters());

  const bool volumes = make_network(network)->divisor()[0] > 1;
  const Shape shape = volumes ? Shape{kSamples, 1, 32, 32, 16} : Shape{kSamples, 1, 1, 32, 48};
  const Batch batch = replay_batch(shape, network.classes, kLabeled);
  for (int64_t i = 0; i < batch.image.elements(); ++i) {
    float& value = batch.image.data<float>()[i];
    value = std::floor(value * 1024) / 1024;
  }
  double worst = 0;
  for (int64_t t = 0; t < setup.iterations; ++t) {
    Random random(1, static_cast<uint64_t>(t) + 1);
    const StepReport report = method->step(batch, {0, t, 0.01, &random});
    INFO(name, " iteration ", t);
    const json& expected = golden["iterations"][static_cast<size_t>(t)];
    worst = std::max(worst, check_report(report, expected, 3e-12));  // RCPS: 7e-13 seen, others 5e-14
  }
  const double worst_norm = check_norms(*method, golden["norms"], 1e-11);  // 12 digits are stored: 5e-12 seen
  MESSAGE(name, ": terms within ", worst, ", norms within ", worst_norm);
}

}  // namespace

TEST_CASE("replay: urpc") {
  const std::map<std::string, std::string> options{
      {"consistency", "0.7"}, {"rampup_unit", "1"}, {"rampup_length", "3"}};
  replay("urpc", "urpc", {.name = "unet3d_ds"}, options);
  replay("urpc_2d", "urpc", {.name = "unet2d_urpc", .classes = 4}, options);
}

TEST_CASE("replay: mc_net and mc_net_plus") {
  const std::map<std::string, std::string> options{
      {"consistency", "0.7"}, {"rampup_unit", "2"}, {"rampup_length", "2"}};
  replay("mc_net", "mc_net", {.name = "mc_net"}, options);
  replay("mc_net_plus", "mc_net_plus", {.name = "mc_net_plus"}, options);
  std::map<std::string, std::string> slices = options;
  slices.insert({{"dice", "2d"}, {"dice_weight", "1"}});
  replay("mc_net_plus_2d", "mc_net_plus", {.name = "mc_net_plus_2d", .classes = 4}, slices);
  slices["detach_targets"] = "true";
  replay("mc_net_2d", "mc_net", {.name = "mc_net_2d", .classes = 4}, slices);
}

TEST_CASE("replay: rcps") {
  std::map<std::string, std::string> options{{"views_fixed", "true"},        {"contrast_range", "0.25"},
                                             {"brightness_range", "0.25"},   {"rectified_weight", "0.5"},
                                             {"contrastive_weight", "0.25"}, {"rampup_unit", "1"},
                                             {"rampup_length", "3"},         {"negatives", "100"}};
  replay("rcps", "rcps", {.name = "unet3d_rcps"}, options);
  options["negatives"] = "400";
  options["negatives_fill"] = "false";
  options["class_weights"] = "10,5";
  replay("rcps_true_negatives", "rcps", {.name = "unet3d_rcps", .classes = 3}, options);
}
