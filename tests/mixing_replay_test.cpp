// CML and CVBM, two iterations of pre-training and two of self-training in f64, held against PyTorch: every
// number that they log, and the norm of every tensor of every network afterwards.
// tests/goldens/make_mixing_replay.py made the numbers and says what data, weights and settings belong to
// them.
#include <doctest/doctest.h>

#include "tests/replay_check.hpp"
#include "tests/two_phase_check.hpp"

using namespace semivox;
using namespace semivox::testing;
using nlohmann::json;

namespace {

constexpr int64_t kLabeled = 4;

void replay(const std::string& name, const std::string& method_name, const NetworkOptions& network,
            const Shape& shape, std::map<std::string, std::string> options) {
  const json golden = read_replay("mixing_replay.json", name);
  const OneThread one_thread;
  options.insert({{"pretrain", "0.5"}, {"mask_corner", "0,3,2"}, {"mask_ratio", "0.6"}});
  MethodSetup setup;
  setup.network = network;
  setup.network.filters = 2;
  setup.network.dropout = 0;
  setup.precision = DType::f64;
  setup.optimizer.weight_decay = 0.01;
  setup.iterations = 4;
  setup.batch = kLabeled;
  const auto method = build_method(method_name, options, setup);
  fill_by_fan(method->student().parameters());

  const Batch all = replay_batch(shape, network.classes, kLabeled);
  const Batch labeled{all.labeled_images(), all.labels(), kLabeled};
  double worst = 0;
  for (int64_t t = 0; t < 4; ++t) {
    if (t == 2) method->begin_phase(1);
    Random random(1, static_cast<uint64_t>(t) + 1);
    const StepReport report = method->step(t < 2 ? labeled : all, {t / 2, t % 2, 0.01, &random});
    INFO("iteration ", t);
    const json& expected = golden["iterations"][static_cast<size_t>(t)];
    worst = std::max(worst, check_report(report, expected, 1e-12));  // 4e-14 seen
  }
  const double worst_norm = check_norms(*method, golden["norms"], 2e-11);  // 12 digits: 5e-12 seen
  MESSAGE(name, ": terms within ", worst, ", norms within ", worst_norm);
}

const Shape kVolumes{2 * kLabeled, 1, 32, 32, 16}, kSlices{2 * kLabeled, 1, 1, 32, 48};

}  // namespace

TEST_CASE("replay: cml") {
  replay("cml", "cml", {.name = "cml"}, kVolumes, {{"unlabeled_weight", "0.5"}});
  replay("cml_self", "cml", {.name = "cml"}, kVolumes,
         {{"unlabeled_weight", "0.5"}, {"outside_from", "self"}});
}

TEST_CASE("replay: cml in 2D") {
  replay("cml_2d", "cml", {.name = "cml_2d", .classes = 4}, kSlices, {{"unlabeled_weight", "0.5"}});
}

TEST_CASE("replay: cvbm") { replay("cvbm", "cvbm", {.name = "cvbm"}, kVolumes, {}); }

TEST_CASE("replay: cvbm in 2D") {
  replay("cvbm_2d", "cvbm", {.name = "cvbm_2d", .classes = 4}, kSlices,
         {{"dice_squared", "true"},
          {"dice_unmasked_background", "true"},
          {"ema_buffers", "true"},
          {"keep_momentum", "true"},
          {"consistency", "0.5"},
          {"rampup_length", "200"},
          {"region_weight", "2"},
          {"pretrain_loss", "regions"}});
}
