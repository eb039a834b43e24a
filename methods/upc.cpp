// UPC: uncertainty-aware pseudo-label and consistency (Lu et al., "Uncertainty-aware pseudo-label and
// consistency for semi-supervised medical image segmentation", BSPC 2023).
//
//   L = 1/2 (CE + Dice)  +  w(t) * [ mean_v(-log p_h exp(-KL)) + mean_v(KL) ],    h = argmax_c q,
//   KL = sum_c q_c (log q_c - log p_c)
//
// A mean teacher (q) whose hard labels h supervise the student (p) on all samples, labelled ones too, each
// voxel the less the more the two disagree. Unlike UA-MT the student sees the noise and the teacher the clean
// images, in one pass. Both networks run in training mode.
#include "methods/upc.hpp"

#include "kernels/uncertainty.hpp"
#include "methods/consistency_options.hpp"
#include "methods/method.hpp"
#include "methods/rectified_consistency.hpp"
#include "methods/supervised_loss.hpp"

namespace semivox {

namespace {

class Upc : public StudentTeacherMethod {
 public:
  explicit Upc(OptionReader& options)
      : ramp_(options, 1.0, 40),
        ema_decay_(options.number("ema_decay", 0.9999, "decay of the teacher's weights", 0, 1)),
        noise_(options.number("noise", 0.2, "standard deviation of the noise on the student's input", 0)),
        noise_clip_(options.number("noise_clip", 0.4, "the noise is clipped to +- this", 0)),
        type_(options.word("consistency_type", "rectified", {"rectified", "thresholded", "logits"},
                           "rectified: the paper's; thresholded: confident pseudo-labels alone (what the "
                           "code does when nothing is set); logits: squared distance of logits")),
        threshold_(options.number("threshold", 0.9, "thresholded: least confidence of a pseudo-label", 0, 1)),
        temperature_(options.number("temperature", 1.0, "thresholded: divides the teacher's logits", 1e-3)) {}

  void build(const MethodSetup& setup) override { nets_.build(setup, true); }

  StepReader queue(const Batch& batch, const StepContext& context) override {
    const RandomStream noise = context.random->next();
    const Pass pass{true, context.random};
    const Tensor noisy = kernels::noisy_copies(batch.image, 1, noise_, noise_clip_, noise);
    const Variable logits = nets_.student->forward(Variable(noisy), pass);
    Tensor target;
    {
      const NoGrad no_grad;
      target = nets_.teacher->forward(Variable(batch.image), pass).value();
    }
    const StepNumber weight = ramp_.in(context);
    const LossValue supervised = supervised_loss(logits.samples(0, batch.labeled), batch.labels(), false);
    const LossValue consistency = consistency_loss(logits, target);
    nets_.update(supervised.loss + weight * consistency.loss, context.learning_rate);
    ema_update(nets_.teacher->parameters(), nets_.student->parameters(), ramped_ema_in(ema_decay_, context),
               false);
    return [this, of_labels = supervised.results, of_teacher = consistency.results, weight] {
      const std::vector<double> s = of_labels.to_doubles(), c = of_teacher.to_doubles();
      StepReport report{{"loss", s[0] + weight.now() * c[0]},
                        {"loss_ce", s[1]},
                        {"loss_dice", s[2]},
                        {"loss_consistency", c[0]},
                        {"consistency_weight", weight.now()}};
      if (type_ == "rectified") {
        report.emplace_back("loss_pseudo", c[1]);
        report.emplace_back("kl", c[2]);
      } else if (type_ == "thresholded") {
        report.emplace_back("confident_voxels", c[1]);
      }
      return report;
    };
  }

 private:
  LossValue consistency_loss(const Variable& logits, const Tensor& teacher) const {
    if (type_ == "rectified") return rectified_consistency(logits, teacher);
    if (type_ == "thresholded") return confident_pseudo_labels(logits, teacher, threshold_, temperature_);
    return logit_distance(logits, teacher);
  }

  RampOptions ramp_;
  double ema_decay_, noise_, noise_clip_;
  std::string type_;
  double threshold_, temperature_;
};

const RegisterMethod register_upc(
    {"upc", "Lu et al., Uncertainty-aware pseudo-label and consistency, BSPC 2023",
     "mean teacher whose hard labels count less where student and teacher disagree",
     [](OptionReader& options) { return std::make_unique<Upc>(options); }});

}  // namespace

}  // namespace semivox
