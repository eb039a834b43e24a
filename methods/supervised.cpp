// Supervised baseline: the network alone, trained on the labelled cases. Every semi-supervised method is
// measured against it.
//
//   L = 1/2 (CE + Dice)
//
// Yu et al., "Uncertainty-aware self-ensembling model for semi-supervised 3D left atrium segmentation",
// MICCAI 2019, whose code names it the (Bayesian) V-Net baseline. Dice is pooled over the batch, with squares
// in the denominator, over the foreground classes.
#include "methods/method.hpp"
#include "methods/supervised_loss.hpp"

namespace semivox {

namespace {

class Supervised : public StudentTeacherMethod {
 public:
  explicit Supervised(OptionReader& options)
      : dice_background_(
            options.flag("dice_background", false, "average Dice over all classes, background included")) {}

  std::vector<Phase> phases(const MethodSetup& setup) const override {
    return {{"train", setup.iterations, setup.batch, 0, setup.learning_rate, false}};
  }

  void build(const MethodSetup& setup) override { nets_.build(setup, false); }

  StepReader queue(const Batch& batch, const StepContext& context) override {
    const Variable logits = nets_.student->forward(Variable(batch.image), {true, context.random});
    const LossValue loss = supervised_loss(logits, batch.label, dice_background_);
    nets_.update(loss.loss, context.learning_rate);
    return [results = loss.results] {
      const std::vector<double> r = results.to_doubles();
      return StepReport{{"loss", r[0]}, {"loss_ce", r[1]}, {"loss_dice", r[2]}};
    };
  }

 private:
  bool dice_background_;
};

const RegisterMethod register_supervised(
    {"supervised", "baseline of Yu et al., MICCAI 2019", "the network alone, trained on the labelled cases",
     [](OptionReader& options) { return std::make_unique<Supervised>(options); }});

}  // namespace

}  // namespace semivox
