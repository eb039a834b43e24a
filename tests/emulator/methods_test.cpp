// Losses and whole iterations of every method, emulated, against the CPU.
#include "kernels/fecl.hpp"
#include "kernels/mixing.hpp"
#include "kernels/patch_labels.hpp"
#include "kernels/uncertainty.hpp"
#include "layers/unit_vectors.hpp"
#include "methods/bcp.hpp"
#include "methods/dycon.hpp"
#include "methods/mean_teacher.hpp"
#include "methods/method.hpp"
#include "methods/rectified_consistency.hpp"
#include "methods/supervised_loss.hpp"
#include "methods/ua_mt.hpp"
#include "tests/emulator/compare.hpp"

using namespace semivox;

namespace {

/// The results of `loss(logits, device)` and the gradient of the logits.
template <class F>
void compare_loss(const Tensor& logits, const F& loss) {
  compare({1e-12, 1e-6}, [&](Device device) {
    const Variable z(logits.to(device), true);
    const LossValue value = loss(z, device);
    value.loss.backward();
    return std::vector{value.results, z.gradient()};  // from sums in f64; in f32
  });
}

/// One iteration of every phase of a method on random patches; the reported numbers and the weights.
std::vector<Tensor> train(const MethodInfo& info, const std::string& network, Device device) {
  OptionReader options(info.name == "ua_mt"
                           ? std::map<std::string, std::string>{{"passes", "2"}, {"threshold_rampup", "1"}}
                           : std::map<std::string, std::string>{});
  const std::unique_ptr<Method> method = info.make(options);
  options.finish(info.name);
  MethodSetup setup;
  setup.network.name = network;
  setup.network.filters = 2;
  setup.device = device;
  setup.iterations = 2;
  method->build(setup);
  std::vector<Tensor> written;
  int64_t phase_number = 0;
  for (const Phase& phase : method->phases(setup)) {
    if (phase_number > 0) method->begin_phase(phase_number);
    const Shape shape{phase.labeled + phase.unlabeled, 1, 16, 16, 16};
    const auto seed = static_cast<uint64_t>(phase_number);
    const Batch batch{noise(shape, seed).to(device), labels(shape, seed, 2).to(device), phase.labeled};
    Random random(3, seed);
    const StepReport report = method->step(batch, {phase_number, 0, 0.01, &random});
    Tensor numbers = Tensor::empty({1, static_cast<int64_t>(report.size()), 1, 1, 1}, DType::f64, kCpu);
    for (size_t i = 0; i < report.size(); ++i) numbers.data<double>()[i] = report[i].second;
    written.push_back(numbers.to(device));
    ++phase_number;
  }
  for (const auto& [name, net] : method->networks()) {
    written.push_back(net->parameters().values());
    written.push_back(net->parameters().buffer_values());
  }
  return written;
}

}  // namespace

TEST_CASE("emulated losses") {
  for (const int64_t classes : {2, 3, 4}) {
    CAPTURE(classes);
    const int count = static_cast<int>(classes);
    const Shape shape{4, classes, 5, 23, 37};  // more voxels than one block adds up
    const std::array<int64_t, 3> size{5, 23, 37};
    const Tensor logits = noise(shape, 1), teacher = noise(shape.with_samples(2), 2);
    const Tensor all_teacher = noise(shape, 3), mean = kernels::softmax(noise(shape.with_samples(2), 4));
    const Tensor y = labels(shape, 5, count), other = labels(shape, 6, count);
    const Tensor mask = kernels::box_mask(size, {kernels::box_at(size, 2.0 / 3.0, {1, 1, 1})}, kCpu);
    compare_loss(logits, [&](const Variable& z, Device d) { return supervised_loss(z, y.to(d), true); });
    compare_loss(logits, [&](const Variable& z, Device d) {
      return mean_teacher_loss(z, y.samples(0, 2).to(d), teacher.to(d), 0.1, false);
    });
    for (const bool kl : {false, true}) {
      compare_loss(logits, [&](const Variable& z, Device d) {
        return ua_mt_loss(z, y.samples(0, 2).to(d), teacher.to(d), mean.to(d), 2, 0.1, 0.65, kl);
      });
    }
    for (const bool pooled : {false, true}) {
      compare_loss(logits, [&](const Variable& z, Device d) {
        return bcp_loss(z, y.to(d), other.to(d), mask.to(d), {1.0, 0.5, pooled, pooled});
      });
    }
    compare_loss(logits,
                 [&](const Variable& z, Device d) { return rectified_consistency(z, all_teacher.to(d)); });
    compare_loss(logits, [&](const Variable& z, Device d) {
      return dycon_loss(z, y.samples(0, 2).to(d), all_teacher.to(d), {1, 0.1, 0.5, 2});
    });
  }
}

TEST_CASE("emulated contrast between patches") {
  const Shape shape{2, 19, 3, 5, 5};  // columns and chunks of rows that do not fill a block
  const Tensor features = noise(shape, 1), teacher = noise(shape, 2);
  const Tensor voxels = labels({2, 1, 6, 15, 10}, 3, 3);
  compare({1e-7, 1e-7, 1e-5}, [&](Device d) {
    const Variable x(features.to(d), true);
    const Tensor classes = kernels::patch_labels(voxels.to(d), {3, 5, 5}, kernels::PatchVoxels::all);
    const Variable target = unit_vectors(Variable(teacher.to(d)));
    const LossValue value = kernels::fecl(unit_vectors(x), target.value(), classes, {.threshold = 0.1});
    value.loss.backward();
    return std::vector{value.results, target.value(), x.gradient()};
  });
}

// BCP is not among them: its pseudo-labels are the largest component of hard decisions, and on a random
// network one voxel that rounding moves across the boundary can join or part components. Its kernels and its
// loss are compared one by one.
TEST_CASE("emulated iterations of the methods without hard pseudo-labels") {
  for (const char* name : {"supervised", "mean_teacher", "ua_mt", "em", "ict"}) {
    const MethodInfo& info = find_method(name);
    CAPTURE(info.name);
    compare({1e-4}, [&](Device device) { return train(info, "vnet", device); });
  }
}

TEST_CASE("emulated iteration of the original V-Net") {
  compare({1e-4}, [](Device device) { return train(find_method("supervised"), "vnet_original", device); });
}
