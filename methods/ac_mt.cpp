// AC-MT: ambiguity-consensus mean teacher (Xu et al., "Ambiguity-selective consistency regularization for
// mean-teacher semi-supervised medical image segmentation", Medical Image Analysis 2023).
//
//   L = 1/2 (CE + Dice)  +  lambda(t) * sum_v m_v |p_v - q_v|^2 / (C sum_v m_v)
//
// A mean teacher whose consistency runs over the ambiguous voxels m of the unlabelled images alone, the
// inverse of UA-MT. Four strategies find them:
//
//   ent   the entropy of the student's prediction is high
//   mu    the entropy of the mean of T = 8 stochastic predictions of the student is high (divisor sum_v m_v)
//   perr  the student's decision is not the class whose prototype, a mean of the teacher's features, is
//         nearest; the entropy of the student's prediction at the other voxels joins the loss
//   serr  confident learning finds the student's decision wrong, judged by the teacher's probabilities
//
// p is the student's prediction, q the teacher's of a noisy copy. Both run in training mode throughout.
#include "methods/ac_mt.hpp"

#include <cmath>

#include "engine/arithmetic.hpp"
#include "kernels/confident_learning.hpp"
#include "kernels/prototypes.hpp"
#include "kernels/uncertainty.hpp"
#include "methods/ambiguity.hpp"
#include "methods/consistency_options.hpp"
#include "methods/method.hpp"

namespace semivox {

namespace {

class AcMt : public StudentTeacherMethod {
 public:
  explicit AcMt(OptionReader& options)
      : strategy_(options.word("strategy", "ent", {"ent", "mu", "perr", "serr"},
                               "how ambiguous voxels are found: student's entropy, entropy of several "
                               "passes, prototypes, confident learning")),
        consistency_(options),
        dice_background_(
            options.flag("dice_background", true, "average Dice over all classes, background included")),
        threshold_(options.number("threshold", 0.75,
                                  "ent, mu: first threshold as part of the highest entropy", 0, 1)),
        ent_rise_(options.number("ent_threshold_rise", 0.2,
                                 "ent: what is added to the threshold during the training", -1, 1)),
        mu_rise_(options.number("mu_threshold_rise", 0.15,
                                "mu: what is added to the threshold during the training", -1, 1)),
        mu_passes_(options.integer("mu_passes", 8, "mu: stochastic passes of the student, even", 2, 64)),
        perr_passes_(options.integer("perr_passes", 10, "perr: stochastic passes of the teacher", 2, 64)),
        perr_uncertainty_(options.number("perr_uncertainty", 0.1,
                                         "perr: classes are certain where the passes deviate less", 0)),
        perr_temperature_(options.number("perr_temperature", 2,
                                         "perr: deviations are those of sigmoid(logit / temperature)", 1e-3)),
        perr_entropy_(options.word("perr_entropy", "auto", {"auto", "repo", "fixed", "none"},
                                   "perr: masks of the entropy term, of all samples (repo) or the sample's "
                                   "own (fixed); auto: repo for two unlabelled samples of two classes")),
        serr_filter_(options.word("serr_filter", "both", {"both", "prune_by_class", "prune_by_noise_rate"},
                                  "serr: rule that picks wrong labels")) {
    if (mu_passes_ % 2 != 0)
      throw UsageError(text("option mu_passes: found ", mu_passes_, ", expected an even number"));
  }

  void build(const MethodSetup& setup) override {
    iterations_ = setup.iterations;
    if (setup.network.classes < 2) {
      throw UsageError(
          text("classes: found ", setup.network.classes, ", expected at least 2 for method ac_mt"));
    }
    nets_.build(setup, true);
  }

  StepReader queue(const Batch& batch, const StepContext& context) override {
    const Pass pass{true, context.random};
    const Variable logits = nets_.student->forward(Variable(batch.image), pass);
    const Tensor images = batch.unlabeled_images();
    const StepNumber threshold = step_value([this, &context] { return threshold_at(context.iteration); });
    Tensor target, mask;
    {
      const NoGrad no_grad;
      target = predict(*nets_.teacher, noisy(images, 1, pass), pass);
      const Tensor student = logits.value().samples(batch.labeled, images.shape().n);
      if (strategy_ == "ent") mask = entropy_mask(kernels::softmax(student), threshold);
      if (strategy_ == "mu") mask = entropy_mask(mean_prediction(images, pass), threshold);
      if (strategy_ == "perr") mask = prototype_errors(student, images, pass);
      if (strategy_ == "serr") mask = label_errors(student, images, pass);
    }
    const StepNumber lambda = consistency_.ramp.in(context);
    const LossValue loss =
        ac_mt_loss(logits, batch.labels(), target, mask,
                   {lambda, strategy_ != "mu", entropy_term(target.shape()), dice_background_});
    nets_.update(loss.loss, context.learning_rate);
    ema_update(nets_.teacher->parameters(), nets_.student->parameters(), consistency_.ema_in(context), false);
    return [this, results = loss.results, lambda, threshold] {
      const std::vector<double> r = results.to_doubles();
      StepReport report{{"loss", r[0]},
                        {"loss_ce", r[1]},
                        {"loss_dice", r[2]},
                        {"loss_consistency", r[3]},
                        {"consistency_weight", lambda.now()},
                        {"mask_voxels", r[5]}};
      if (strategy_ == "ent" || strategy_ == "mu") report.emplace_back("entropy_threshold", threshold.now());
      if (strategy_ == "perr") report.emplace_back("loss_entropy", r[4]);
      return report;
    };
  }

  /// Confident learning counts errors on the device, then chooses thresholds and a rule on the host.
  bool replayable() const override { return strategy_ != "serr"; }

 private:
  /// In nats: the highest entropy is ln C.
  double threshold_at(int64_t t) const {
    const double rise = strategy_ == "mu" ? mu_rise_ : ent_rise_;
    const double ramp = sigmoid_rampup(static_cast<double>(t), static_cast<double>(iterations_));
    return (threshold_ + rise * ramp) * std::log(static_cast<double>(nets_.student->options().classes));
  }

  EntropyTerm entropy_term(const Shape& unlabeled) const {
    if (strategy_ != "perr" || perr_entropy_ == "none") return EntropyTerm::none;
    if (perr_entropy_ == "auto")
      return unlabeled.n == 2 && unlabeled.c == 2 ? EntropyTerm::shared : EntropyTerm::own;
    return perr_entropy_ == "repo" ? EntropyTerm::shared : EntropyTerm::own;
  }

  Tensor noisy(const Tensor& images, int64_t copies, const Pass& pass) const {
    const RandomStream noise = pass.random->next();
    return kernels::noisy_copies(images, copies, consistency_.noise, consistency_.noise_clip, noise);
  }

  static Tensor predict(Network& network, const Tensor& images, const Pass& pass) {
    return network.forward(Variable(images), pass).value();
  }

  /// Mean probabilities of the student's stochastic passes, two per batch. They change its running
  /// statistics, as in the official code.
  Tensor mean_prediction(const Tensor& images, const Pass& pass) {
    Tensor mean;
    for (int64_t call = 0; call < mu_passes_ / 2; ++call) {
      const Tensor logits = predict(*nets_.student, noisy(images, 2, pass), pass);
      if (call == 0) {
        mean = Tensor::zeros(logits.shape().with_samples(images.shape().n), logits.dtype(), logits.device());
      }
      kernels::accumulate_softmax(logits, 2, 1.0 / static_cast<double>(mu_passes_), mean);
    }
    return mean;
  }

  /// Where the student decides for another class than the nearest prototype's.
  Tensor prototype_errors(const Tensor& student, const Tensor& images, const Pass& pass) {
    const Tensor probabilities = kernels::softmax(predict(*nets_.teacher, images, pass));
    PassStatistics passes(perr_temperature_);
    for (int64_t k = 0; k < perr_passes_; ++k) {
      const NetworkOutput output = nets_.teacher->forward_all(Variable(images), pass);
      if (!output.features.defined()) {
        throw UsageError(text("option strategy: found 'perr' with network ", nets_.teacher->options().name,
                              ", expected a network with a feature map: vnet, unet2d or unet3d"));
      }
      passes.add(output.logits.value(), output.features.value());
    }
    const Tensor features = passes.features();
    const Tensor rectified = rectified_labels(probabilities, passes, perr_uncertainty_);
    const Shape shape = images.shape();
    const Tensor nearest = kernels::nearest_prototypes(
        features, kernels::class_prototypes(probabilities, rectified, features), {shape.d, shape.h, shape.w});
    return disagreement(kernels::hard_labels(student, false), nearest);
  }

  /// What confident learning takes for the student's errors; undefined, which means every voxel, while the
  /// student knows one class only.
  Tensor label_errors(const Tensor& student, const Tensor& images, const Pass& pass) {
    Tensor logits = predict(*nets_.teacher, images, pass);
    if (logits.dtype() != DType::f32) logits = cast(logits, DType::f32);
    kernels::LabelIssues rule = kernels::LabelIssues::both;
    if (serr_filter_ == "prune_by_class") rule = kernels::LabelIssues::by_class;
    if (serr_filter_ == "prune_by_noise_rate") rule = kernels::LabelIssues::by_noise_rate;
    return kernels::label_issues(kernels::softmax(logits), kernels::hard_labels(student, false), rule)
        .value_or(Tensor());
  }

  std::string strategy_;
  ConsistencyOptions consistency_;
  bool dice_background_;
  double threshold_, ent_rise_, mu_rise_;
  int64_t mu_passes_, perr_passes_;
  double perr_uncertainty_, perr_temperature_;
  std::string perr_entropy_, serr_filter_;
  int64_t iterations_ = 0;
};

const RegisterMethod register_ac_mt(
    {"ac_mt", "Xu et al., Ambiguity-selective consistency regularization, Medical Image Analysis 2023",
     "mean teacher whose consistency runs over ambiguous voxels alone, by one of four strategies",
     [](OptionReader& options) { return std::make_unique<AcMt>(options); }});

}  // namespace

}  // namespace semivox
