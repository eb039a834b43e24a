// MC-Net (Wu et al., "Semi-supervised left atrium segmentation with mutual consistency training", MICCAI
// 2021) and MC-Net+ (Wu et al., "Mutual consistency learning for semi-supervised medical image segmentation",
// Medical Image Analysis 2022).
//
//   L = lambda * sum_i Dice(p_i, y)  +  w(t) * sum_{i != j} mean((p_i - s(p_j))^2)
//
// Two or three decoders behind one encoder differ only in how they double their feature maps; where they
// disagree the network is unsure. Every decoder is pulled towards the sharpened probabilities s(p_j) of every
// other one, on labelled and unlabelled samples. The gradient passes through the sharpening as well.
#include "methods/mc_net.hpp"

#include "methods/dice_loss.hpp"
#include "methods/method.hpp"
#include "methods/ramp_options.hpp"

namespace semivox {

namespace {

template <int kDecoders>
struct MutualConsistency {
  double sharpness;  // k = 1/T
  bool detached;
  int64_t voxels;

  static constexpr int kResults = 1;
  SEMIVOX_HD static constexpr int sums(int) { return 1; }

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t, int64_t, S* t) const {
    const int classes = channels / kDecoders;
    S p[voxel::kMaxChannels];
    for (int i = 0; i < kDecoders; ++i) softmax(z + i * classes, classes, p + i * classes);
    for (int j = 0; j < kDecoders; ++j) {
      for (int c = 0; c < classes; ++c) {
        const S& own = p[j * classes + c];
        const S target = detached ? S(sharpen(value_of(own), sharpness)) : sharpen(own, sharpness);
        for (int i = 0; i < kDecoders; ++i) {
          if (i != j) t[0] = t[0] + square(p[i * classes + c] - target);
        }
      }
    }
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int channels, S* results) const {
    const int64_t elements = sums.samples * voxels * (channels / kDecoders);
    results[0] = sums.total(0) / S(static_cast<double>(elements));
  }
};

/// Both methods, which differ in the number of the network's decoders.
class MCNetMethod : public StudentTeacherMethod {
 public:
  MCNetMethod(OptionReader& options, std::string name)
      : name_(std::move(name)),
        dice_weight_(
            options.number("dice_weight", 0.5, "weight lambda of the decoders' Dice (2D code: 1)", 0)),
        form_(options.word("dice", "3d", {"3d", "2d"},
                           "foreground without squares (3d), or all classes with squares and half the "
                           "overlap (2d)") == "3d"
                  ? kForegroundDice
                  : kHalvedDice),
        ramp_(options, 1.0, 40,
              {.weight = "final weight of the consistency term (2D code: 0.1)",
               .length = "steps until the weight is reached, 0: from the start (2D code: 200)"}),
        temperature_(options.number("temperature", 0.1, "temperature T of the sharpening", 0.01, 1)),
        detached_(options.flag("detach_targets", false,
                               "no gradient through the sharpened probabilities (the paper's wording)")) {}

  void build(const MethodSetup& setup) override {
    require_network(find_method(name_), setup.network.name, "--network");
    nets_.build(setup, false);
  }

  StepReader queue(const Batch& batch, const StepContext& context) override {
    const NetworkOutput output = nets_.student->forward_all(Variable(batch.image), {true, context.random});
    std::vector<Variable> logits{output.logits};
    logits.insert(logits.end(), output.auxiliary.begin(), output.auxiliary.end());
    const LossValue consistency = mutual_consistency(logits, temperature_, detached_);
    const Tensor labels = batch.labels();
    // The official code counts iterations from 1 here.
    const StepNumber weight = ramp_.in(context, 1);
    Variable loss = weight * consistency.loss;
    std::vector<LossValue> terms;
    for (const Variable& z : logits) {
      terms.push_back(dice_loss(z.samples(0, batch.labeled), labels, form_));
      loss = loss + dice_weight_ * terms.back().loss;
    }
    nets_.update(loss, context.learning_rate);
    return [=] {
      double dice = 0;
      for (const LossValue& term : terms) dice += term.results.to_doubles()[0];
      return StepReport{{"loss", loss.value().to_doubles()[0]},
                        {"loss_dice", dice},
                        {"loss_consistency", consistency.results.to_doubles()[0]},
                        {"consistency_weight", weight.now()}};
    };
  }

 private:
  std::string name_;
  double dice_weight_;
  DiceForm form_;
  RampOptions ramp_;
  double temperature_;
  bool detached_;
};

const RegisterMethod two({"mc_net",
                          "Wu et al., Mutual consistency training, MICCAI 2021",
                          "two decoders, each drawn to the sharpened probabilities of the other",
                          [](OptionReader& options) {
                            return std::make_unique<MCNetMethod>(options, "mc_net");
                          },
                          {"mc_net", "mc_net_2d"}});

const RegisterMethod three({"mc_net_plus",
                            "Wu et al., Mutual consistency learning, Medical Image Analysis 2022",
                            "three decoders, each drawn to the sharpened probabilities of the others",
                            [](OptionReader& options) {
                              return std::make_unique<MCNetMethod>(options, "mc_net_plus");
                            },
                            {"mc_net_plus", "mc_net_plus_2d"}});

}  // namespace

LossValue mutual_consistency(const std::vector<Variable>& logits, double temperature, bool detached) {
  SEMIVOX_CHECK(logits.size() == 2 || logits.size() == 3, logits.size(), " decoders");
  const int64_t voxels = logits[0].shape().voxels();
  if (logits.size() == 2) {
    return evaluate("mutual_consistency", MutualConsistency<2>{1 / temperature, detached, voxels}, logits,
                    {});
  }
  return evaluate("mutual_consistency", MutualConsistency<3>{1 / temperature, detached, voxels}, logits, {});
}

}  // namespace semivox
