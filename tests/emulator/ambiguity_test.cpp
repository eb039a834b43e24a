// Losses and kernels of MCF and AC-MT, emulated, against the CPU.
#include "methods/ambiguity.hpp"
#include "kernels/confident_learning.hpp"
#include "kernels/mean_prediction.hpp"
#include "kernels/order_statistic.hpp"
#include "kernels/prototypes.hpp"
#include "kernels/uncertainty.hpp"
#include "methods/ac_mt.hpp"
#include "methods/mcf.hpp"
#include "tests/emulator/compare.hpp"

using namespace semivox;

namespace {

constexpr int64_t kLabeled = 1;

Shape shape_of(int64_t classes) { return {3, classes, 5, 23, 37}; }  // more voxels than one block adds up

}  // namespace

TEST_CASE("emulated losses of MCF and AC-MT") {
  for (const int64_t classes : {2, 3}) {
    CAPTURE(classes);
    const Shape shape = shape_of(classes);
    const Tensor a = noise(shape, 1), b = noise(shape, 2);
    const Tensor y = labels(shape, 3, static_cast<int>(classes)).samples(0, kLabeled);
    for (const McfTeacher teacher : {McfTeacher::compete, McfTeacher::vnet}) {
      compare({1e-12, 2e-6}, [&](Device d) {  // results from sums in f64; gradients in f32
        const Variable vnet(a.to(d), true), resvnet(b.to(d), true);
        const LossValue loss = mcf_loss(vnet, resvnet, y.to(d), {.teacher = teacher});
        loss.loss.backward();
        return std::vector{loss.results, vnet.gradient(), resvnet.gradient()};
      });
    }
    const Tensor target = b.samples(kLabeled, 2), mask = labels(shape, 4, 2).samples(kLabeled, 2);
    for (const EntropyTerm entropy : {EntropyTerm::none, EntropyTerm::own, EntropyTerm::shared}) {
      compare({1e-12, 2e-6}, [&](Device d) {
        const Variable z(a.to(d), true);
        const Tensor used = entropy == EntropyTerm::none ? Tensor() : mask.to(d);
        const LossValue loss = ac_mt_loss(z, y.to(d), target.to(d), used, {.entropy = entropy});
        loss.loss.backward();
        return std::vector{loss.results, z.gradient()};
      });
    }
    compare({0}, [&](Device d) {
      const Tensor x = a.to(d), z = b.to(d);
      return std::vector{kernels::mean_prediction(x, z), kernels::mean_prediction_backward(x, z, x)};
    });
  }
}

TEST_CASE("emulated masks of AC-MT") {
  for (const int64_t classes : {2, 4}) {
    CAPTURE(classes);
    const Shape shape = shape_of(classes), coarse{3, 6, 5, 12, 19};
    const int count = static_cast<int>(classes);
    const Tensor p = kernels::softmax(noise(shape, 1)), s = labels(shape, 2, count);
    compare({0}, [&](Device d) {
      const Tensor high = entropy_mask(p.to(d), 0.9 * std::log(static_cast<double>(classes)));
      return std::vector{high, disagreement(s.to(d), high)};
    });
    const Tensor features = noise(coarse, 3);
    compare({0, 0, 1e-6}, [&](Device d) {
      PassStatistics passes(2);
      for (uint64_t k = 0; k < 3; ++k) passes.add(noise(shape, 10 + k).to(d), noise(coarse, 20 + k).to(d));
      const Tensor rectified = rectified_labels(p.to(d), passes, 0.1);
      return std::vector{rectified, passes.features(),
                         kernels::class_prototypes(p.to(d), rectified, passes.features())};
    });
    const Tensor prototypes = kernels::class_prototypes(p, s, features);
    compare({0}, [&](Device d) {
      return std::vector{kernels::nearest_prototypes(features.to(d), prototypes.to(d), {5, 23, 37})};
    });
    for (const kernels::LabelIssues rule :
         {kernels::LabelIssues::by_class, kernels::LabelIssues::by_noise_rate}) {
      compare({0}, [&](Device d) { return std::vector{*kernels::label_issues(p.to(d), s.to(d), rule)}; });
    }
    const Tensor values = noise(s.shape(), 5);
    for (const int64_t rank : {0, 1000, 2000}) {
      CHECK(kernels::order_statistic(values.to(kEmulated), s.to(kEmulated), 1, rank) ==
            kernels::order_statistic(values, s, 1, rank));
    }
  }
}
