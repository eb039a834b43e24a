// Entropy minimisation (the entropy term of Vu et al., "ADVENT: adversarial entropy minimization for domain
// adaptation in semantic segmentation", CVPR 2019, as in SSL4MIS).
//
//   L = 1/2 (CE + Dice)  on the labelled samples  +  lambda(t) * mean over all voxels of all samples of
//   -1/ln C sum_c p_c log(p_c + 1e-6)
//
// One network and one pass: on unlabelled images the network is asked to be sure, of whatever it thinks.
#include "methods/em.hpp"

#include "methods/method.hpp"
#include "methods/ramp_options.hpp"
#include "methods/supervised_loss.hpp"

namespace semivox {

namespace {

constexpr double kEpsilon = 1e-6;

struct NormalizedEntropy {
  int64_t voxels;

  static constexpr int kResults = 1;
  SEMIVOX_HD static constexpr int sums(int) { return 1; }

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t, int64_t, S* t) const {
    S p[voxel::kMaxChannels];
    softmax(z, channels, p);
    for (int c = 0; c < channels; ++c) t[0] = t[0] - p[c] * logarithm(p[c] + S(kEpsilon));
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int channels, S* results) const {
    results[0] = sums.total(0) /
                 S(logarithm(static_cast<double>(channels)) * static_cast<double>(sums.samples * voxels));
  }
};

class EntropyMinimization : public StudentTeacherMethod {
 public:
  explicit EntropyMinimization(OptionReader& options)
      : ramp_(options, 0.1, 200),
        dice_background_(
            options.flag("dice_background", true, "average Dice over all classes, background included")) {}

  void build(const MethodSetup& setup) override { nets_.build(setup, false); }

  StepReader queue(const Batch& batch, const StepContext& context) override {
    const Variable logits = nets_.student->forward(Variable(batch.image), {true, context.random});
    const StepNumber lambda = ramp_.in(context);
    const LossValue supervised =
        supervised_loss(logits.samples(0, batch.labeled), batch.labels(), dice_background_);
    const LossValue entropy = normalized_entropy(logits);
    nets_.update(supervised.loss + lambda * entropy.loss, context.learning_rate);
    return [of_labels = supervised.results, of_entropy = entropy.results, lambda] {
      const std::vector<double> s = of_labels.to_doubles(), e = of_entropy.to_doubles();
      return StepReport{{"loss", s[0] + lambda.now() * e[0]},
                        {"loss_ce", s[1]},
                        {"loss_dice", s[2]},
                        {"loss_entropy", e[0]},
                        {"consistency_weight", lambda.now()}};
    };
  }

 private:
  RampOptions ramp_;
  bool dice_background_;
};

const RegisterMethod register_em({"em", "Vu et al., ADVENT (its entropy term), CVPR 2019",
                                  "one network that is asked to be sure of its predictions, labelled or not",
                                  [](OptionReader& options) {
                                    return std::make_unique<EntropyMinimization>(options);
                                  }});

}  // namespace

LossValue normalized_entropy(const Variable& logits) {
  SEMIVOX_CHECK(logits.shape().c >= 2, "entropy of ", logits.shape().c, " class");
  return evaluate("normalized_entropy", NormalizedEntropy{logits.shape().voxels()}, {logits}, {});
}

}  // namespace semivox
