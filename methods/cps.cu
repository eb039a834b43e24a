// CPS: cross pseudo supervision (Chen et al., "Semi-supervised semantic segmentation with cross pseudo
// supervision", CVPR 2021, as in SSL4MIS).
//
//   L = S(z1) + lambda(t) CE(z1, argmax z2)  +  S(z2) + lambda(t) CE(z2, argmax z1),    S = 1/2 (CE + Dice)
//
// Two networks of one architecture, which differ by their first weights and their dropout, each learn the
// other's hard decisions on the unlabelled samples. The decisions come from the same training passes and
// carry no gradient: each network is trained by its own half of L. The first one is validated and predicts.
#include "methods/cps.hpp"

#include <cmath>

#include "kernels/uncertainty.hpp"
#include "methods/method.hpp"
#include "methods/ramp_options.hpp"
#include "methods/supervised_loss.hpp"

namespace semivox {

namespace {

constexpr uint64_t kSecondSeed = 0x5ec0d;  // added to the run's seed for the second network's first weights

struct LabelCrossEntropy {
  const uint8_t* labels;  // (N, V)
  int64_t voxels;

  static constexpr int kResults = 1;
  SEMIVOX_HD static constexpr int sums(int) { return 1; }

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    S p[voxel::kMaxChannels];
    const S log_normalizer = softmax(z, channels, p);
    const int label = labels[sample * voxels + v];
    SEMIVOX_UNROLL
    for (int c = 0; c < channels; ++c) {
      if (c == label) t[0] = log_normalizer - z[c];
    }
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int, S* results) const {
    results[0] = sums.total(0) / S(static_cast<double>(sums.samples * voxels));
  }
};

/// Draws the weights of all 3D convolutions anew: normal with variance 2 / fan_in (He et al., ICCV 2015) or
/// 2 / (fan_in + fan_out) (Glorot and Bengio, AISTATS 2010). Biases keep their values; so do 2D networks.
void draw_convolutions(Network& network, bool xavier, uint64_t seed) {
  ParameterSet& set = network.parameters();
  for (Parameter& p : set.parameters()) {
    if (p.dims.size() != 5) continue;
    const auto fan_in = static_cast<double>(p.count / p.dims[0]);
    const auto fan_out = static_cast<double>(p.count / p.dims[1]);
    p.initializer = Initializer::normal(std::sqrt(2.0 / (xavier ? fan_in + fan_out : fan_in)));
  }
  set.initialize(seed);
}

class Cps : public Method {
 public:
  explicit Cps(OptionReader& options)
      : ramp_(options, 0.1, 200),
        on_all_(options.word("cross_on", "unlabeled", {"unlabeled", "all"},
                             "samples that the networks teach each other on (all: the paper)") == "all"),
        kaiming_xavier_(options.word("first_weights", "kaiming_xavier", {"kaiming_xavier", "network"},
                                     "3D: Kaiming's for the first network and Xavier's for the second, or "
                                     "the network's own for both") == "kaiming_xavier"),
        dice_background_(
            options.flag("dice_background", true, "average Dice over all classes, background included")) {}

  std::vector<Phase> phases(const MethodSetup& setup) const override { return half_labeled_phase(setup); }

  void build(const MethodSetup& setup) override {
    MethodSetup second = setup;
    second.seed += kSecondSeed;
    first_.build(setup, false);
    second_.build(second, false);
    if (!kaiming_xavier_) return;
    draw_convolutions(*first_.student, false, setup.seed);
    draw_convolutions(*second_.student, true, second.seed);
  }

  StepReader queue(const Batch& batch, const StepContext& context) override {
    const Pass pass{true, context.random};
    const Variable z1 = first_.student->forward(Variable(batch.image), pass);
    const Variable z2 = second_.student->forward(Variable(batch.image), pass);
    const StepNumber lambda = ramp_.in(context);
    const Tensor decisions_1 = kernels::hard_labels(crossed(z1, batch).value(), false);
    const Tensor decisions_2 = kernels::hard_labels(crossed(z2, batch).value(), false);
    const Half first = train(first_, z1, decisions_2, lambda, batch, context.learning_rate);
    const Half second = train(second_, z2, decisions_1, lambda, batch, context.learning_rate);
    return [=] {
      const std::vector<double> s1 = first.supervised.results.to_doubles(),
                                s2 = second.supervised.results.to_doubles();
      const double cross1 = first.cross.results.to_doubles()[0],
                   cross2 = second.cross.results.to_doubles()[0], w = lambda.now();
      return StepReport{{"loss", s1[0] + w * cross1 + (s2[0] + w * cross2)},
                        {"loss_ce_1", s1[1]},
                        {"loss_dice_1", s1[2]},
                        {"loss_cross_1", cross1},
                        {"loss_ce_2", s2[1]},
                        {"loss_dice_2", s2[2]},
                        {"loss_cross_2", cross2},
                        {"consistency_weight", w}};
    };
  }

  Network& student() override { return *first_.student; }
  std::vector<std::pair<std::string, Network*>> networks() override {
    return {{"student", first_.student.get()}, {"second", second_.student.get()}};
  }
  std::vector<std::pair<std::string, Optimizer*>> optimizers() override {
    return {{"sgd", first_.optimizer.get()}, {"sgd_second", second_.optimizer.get()}};
  }

 private:
  /// The logits of the samples that cross supervision runs over.
  Variable crossed(const Variable& logits, const Batch& batch) const {
    return on_all_ ? logits : logits.samples(batch.labeled, logits.shape().n - batch.labeled);
  }

  /// One network's half of the loss.
  struct Half {
    LossValue supervised, cross;
  };

  /// Calculates it and makes the network's step.
  Half train(StudentTeacher& net, const Variable& logits, const Tensor& decisions, StepNumber lambda,
             const Batch& batch, StepNumber learning_rate) const {
    const Half half{supervised_loss(logits.samples(0, batch.labeled), batch.labels(), dice_background_),
                    label_cross_entropy(crossed(logits, batch), decisions)};
    net.update(half.supervised.loss + lambda * half.cross.loss, learning_rate);
    return half;
  }

  RampOptions ramp_;
  bool on_all_, kaiming_xavier_, dice_background_;
  StudentTeacher first_, second_;
};

const RegisterMethod register_cps({"cps", "Chen et al., Cross pseudo supervision, CVPR 2021",
                                   "two networks that learn each other's hard decisions on unlabelled images",
                                   [](OptionReader& options) { return std::make_unique<Cps>(options); }});

}  // namespace

LossValue label_cross_entropy(const Variable& logits, const Tensor& labels) {
  SEMIVOX_CHECK(labels.shape() == logits.shape().with_channels(1), labels.shape().str(), " labels for ",
                logits.shape().str());
  return evaluate("label_cross_entropy", LabelCrossEntropy{labels.data<uint8_t>(), logits.shape().voxels()},
                  {logits}, {labels});
}

}  // namespace semivox
