// BCP: bidirectional copy-paste (Bai et al., "Bidirectional copy-paste for semi-supervised medical image
// segmentation", CVPR 2023).
//
// The student only ever sees mixed images: a box of one image is pasted into another, M = 1 outside and 0
// inside the box.
//
//   pretrain (labelled A, B):         X = A*M + B*(1-M),  L = 1/2 (CE + Dice) on the mixed labels
//   selftrain (labelled A, B; unlabelled U, V with teacher's pseudo-labels P_U, P_V):
//     first   A*M + U*(1-M)   against Y_A outside (weight 1)      and P_U inside (weight alpha)
//     second  V*M + B*(1-M)   against P_V outside (weight alpha)  and Y_B inside (weight 1)
//     L = mix(first) + mix(second)
//
// Pseudo-labels are the teacher's hard decisions, its largest component only. There is no consistency term:
// the copied borders and the weight-averaged teacher do the work.
#include "methods/bcp.hpp"

#include "kernels/mixing.hpp"
#include "methods/copy_paste.hpp"

namespace semivox {

namespace {

class Bcp : public StudentTeacherMethod {
 public:
  explicit Bcp(OptionReader& options)
      : alpha_(options.number("pseudo_weight", 0.5, "weight alpha of the pseudo-labelled region", 0)),
        region_(options),
        ema_decay_(options.number("ema_decay", 0.99, "decay of the teacher's weights", 0, 1)),
        ema_buffers_(options.flag("ema_buffers", false, "average the running statistics, too (2D code)")),
        phases_(options),
        neighbours_(read_neighbours(options)),
        pooled_squares_(
            options.flag("dice_squared", false, "Dice with squares, pooled over the batch (2D code)")),
        unmasked_background_(options.flag("dice_unmasked_background", false,
                                          "ignore the mask in the background's Dice (first 2D code)")) {}

  std::vector<Phase> phases(const MethodSetup& setup) const override { return phases_(setup); }

  void build(const MethodSetup& setup) override {
    optimizer_options_ = setup.optimizer;
    nets_.build(setup, true);
  }

  void begin_phase(int64_t) override {
    nets_.teacher->parameters().copy_from(nets_.student->parameters());
    nets_.optimizer = make_optimizer(optimizer_options_, nets_.student->parameters());
  }

  StepReader queue(const Batch& batch, const StepContext& context) override {
    return context.phase == 0 ? pretrain(batch, context) : selftrain(batch, context);
  }

 private:
  StepReader pretrain(const Batch& batch, const StepContext& context) {
    const int64_t half = batch.labeled / 2;
    const Tensor mask = region_.draw(batch.image, context.random->next());
    const Tensor image =
        kernels::copy_paste(batch.image.samples(0, half), batch.image.samples(half, half), mask);
    const Tensor label =
        kernels::copy_paste(batch.label.samples(0, half), batch.label.samples(half, half), mask);
    const Variable logits = nets_.student->forward(Variable(image), {true, context.random});
    const LossValue loss = bcp_loss(logits, label, label, whole_mask(image), loss_options(1.0, 0.0));
    nets_.update(loss.loss, context.learning_rate);
    return [results = loss.results] {
      const std::vector<double> r = results.to_doubles();
      return StepReport{{"loss", r[0]}, {"loss_ce", r[1]}, {"loss_dice", r[2]}};
    };
  }

  StepReader selftrain(const Batch& batch, const StepContext& context) {
    const int64_t half = batch.labeled / 2;
    const Tensor unlabeled = batch.unlabeled_images();
    const Tensor a = batch.image.samples(0, half), b = batch.image.samples(half, half);
    const Tensor u = unlabeled.samples(0, half), v = unlabeled.samples(half, half);
    const Tensor label_a = batch.label.samples(0, half), label_b = batch.label.samples(half, half);
    const Pass pass{true, context.random};
    const Tensor pseudo_u = pseudo_label(u, pass), pseudo_v = pseudo_label(v, pass);
    const Tensor mask = region_.draw(batch.image, context.random->next());

    const Variable first = nets_.student->forward(Variable(kernels::copy_paste(a, u, mask)), pass);
    const Variable second = nets_.student->forward(Variable(kernels::copy_paste(v, b, mask)), pass);
    const LossValue loss_1 = bcp_loss(first, label_a, pseudo_u, mask, loss_options(1.0, alpha_));
    const LossValue loss_2 = bcp_loss(second, pseudo_v, label_b, mask, loss_options(alpha_, 1.0));
    nets_.update(loss_1.loss + loss_2.loss, context.learning_rate);
    ema_update(nets_.teacher->parameters(), nets_.student->parameters(), ema_decay_, ema_buffers_);
    return [results = std::array{loss_1.results, loss_2.results}] {
      const std::vector<double> r[] = {results[0].to_doubles(), results[1].to_doubles()};
      StepReport report{{"loss", r[0][0] + r[1][0]}};
      for (int i = 0; i < 2; ++i) {
        static constexpr const char* names[] = {"loss_outer_inner", "loss_ce",    "loss_dice", "ce_outer",
                                                "ce_inner",         "dice_outer", "dice_inner"};
        for (size_t k = 0; k < r[i].size(); ++k) report.emplace_back(text(names[k], "_", i + 1), r[i][k]);
      }
      return report;
    };
  }

  /// The teacher decides in training mode.
  Tensor pseudo_label(const Tensor& image, const Pass& pass) {
    const NoGrad no_grad;
    return pseudo_labels(nets_.teacher->forward(Variable(image), pass).value(), neighbours_);
  }

  BcpLossOptions loss_options(double outer_weight, double inner_weight) const {
    return {outer_weight, inner_weight, pooled_squares_, unmasked_background_, false};
  }

  double alpha_;
  PastedRegion region_;
  double ema_decay_;
  bool ema_buffers_;
  CopyPastePhases phases_;
  int neighbours_;
  bool pooled_squares_, unmasked_background_;
  OptimizerOptions optimizer_options_;
};

const RegisterMethod register_bcp(
    {"bcp", "Bai et al., Bidirectional copy-paste, CVPR 2023",
     "student trained on labelled and pseudo-labelled images pasted into each other",
     [](OptionReader& options) { return std::make_unique<Bcp>(options); }});

}  // namespace

}  // namespace semivox
