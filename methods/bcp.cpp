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

#include "kernels/components.hpp"
#include "kernels/mixing.hpp"
#include "kernels/uncertainty.hpp"
#include "methods/method.hpp"

namespace semivox {

namespace {

std::array<int64_t, 3> parse_corner(const std::string& value) {
  std::array<int64_t, 3> corner{};
  char end = 0;
  if (std::sscanf(value.c_str(), "%ld,%ld,%ld%c", &corner[0], &corner[1], &corner[2], &end) != 3) {
    throw UsageError(
        text("option mask_corner: found '", value, "', expected three integers as 3,4,2, or random"));
  }
  return corner;
}

class Bcp : public Method {
 public:
  explicit Bcp(OptionReader& options)
      : alpha_(options.number("pseudo_weight", 0.5, "weight alpha of the pseudo-labelled region", 0)),
        ratio_(
            options.number("mask_ratio", 2.0 / 3.0, "side of the box as part of the patch, beta", 0.01, 1)),
        mask_(options.word("mask", "box", {"box", "grid", "band"},
                           "shape of the pasted region (grid, band: ablations)")),
        corner_(options.string("mask_corner", "random", "corner of the box as i,j,k, or random")),
        ema_decay_(options.number("ema_decay", 0.99, "decay of the teacher's weights", 0, 1)),
        ema_buffers_(options.flag("ema_buffers", false, "average the running statistics, too (2D code)")),
        pretrain_(
            options.number("pretrain", 0.25, "part of the iterations spent on labelled images alone", 0, 1)),
        continue_from_(
            options.word("selftrain_from", "last", {"last", "best"},
                         "weights that self-training starts from (best: of pre-training's validation)")),
        neighbours_(options.integer("neighbours", 26, "connectivity of the largest component: 6, 18 or 26")),
        pooled_squares_(
            options.flag("dice_squared", false, "Dice with squares, pooled over the batch (2D code)")),
        unmasked_background_(options.flag("dice_unmasked_background", false,
                                          "ignore the mask in the background's Dice (first 2D code)")) {
    if (neighbours_ != 6 && neighbours_ != 18 && neighbours_ != 26) {
      throw UsageError(text("option neighbours: found ", neighbours_, ", expected 6, 18 or 26"));
    }
    if (corner_ != "random") parse_corner(corner_);
  }

  std::vector<Phase> phases(const MethodSetup& setup) const override {
    if (setup.batch < 2 || setup.batch % 2 != 0) {
      throw UsageError(
          text("--batch: found ", setup.batch, ", expected an even number: images are mixed in pairs"));
    }
    const auto first = static_cast<int64_t>(pretrain_ * static_cast<double>(setup.iterations) + 0.5);
    LearningRate constant = setup.learning_rate;
    constant.kind = LearningRate::Kind::constant;
    std::vector<Phase> phases{{"pretrain", first, setup.batch, 0, constant, continue_from_ == "best"}};
    phases.push_back(
        {"selftrain", setup.iterations - first, setup.batch, setup.batch, setup.learning_rate, false});
    return phases;
  }

  void build(const MethodSetup& setup) override {
    optimizer_options_ = setup.optimizer;
    nets_.build(setup, true);
  }

  void begin_phase(int64_t) override {
    nets_.teacher->parameters().copy_from(nets_.student->parameters());
    nets_.optimizer = make_optimizer(optimizer_options_, nets_.student->parameters());
  }

  StepReport step(const Batch& batch, const StepContext& context) override {
    return context.phase == 0 ? pretrain(batch, context) : selftrain(batch, context);
  }

  Network& student() override { return *nets_.student; }
  std::vector<std::pair<std::string, Network*>> networks() override { return nets_.networks(); }
  std::vector<std::pair<std::string, Optimizer*>> optimizers() override {
    return {{"sgd", nets_.optimizer.get()}};
  }

 private:
  StepReport pretrain(const Batch& batch, const StepContext& context) {
    const int64_t half = batch.labeled / 2;
    const Tensor mask = draw_mask(batch.image, context.random->next());
    const Tensor image =
        kernels::copy_paste(batch.image.samples(0, half), batch.image.samples(half, half), mask);
    const Tensor label =
        kernels::copy_paste(batch.label.samples(0, half), batch.label.samples(half, half), mask);
    const Variable logits = nets_.student->forward(Variable(image), {true, context.random});
    // Plain CE and Dice on the mixed label map: one region that covers everything.
    const Tensor everywhere = kernels::box_mask(size_of_patch(image), {}, image.device());
    const LossValue loss = bcp_loss(logits, label, label, everywhere, loss_options(1.0, 0.0));
    nets_.update(loss.loss, context.learning_rate);
    const std::vector<double> r = loss.results.to_doubles();
    return {{"loss", r[0]}, {"loss_ce", r[1]}, {"loss_dice", r[2]}};
  }

  StepReport selftrain(const Batch& batch, const StepContext& context) {
    const int64_t half = batch.labeled / 2;
    const Tensor unlabeled = batch.unlabeled_images();
    const Tensor a = batch.image.samples(0, half), b = batch.image.samples(half, half);
    const Tensor u = unlabeled.samples(0, half), v = unlabeled.samples(half, half);
    const Tensor label_a = batch.label.samples(0, half), label_b = batch.label.samples(half, half);
    const Pass pass{true, context.random};
    const Tensor pseudo_u = pseudo_label(u, pass), pseudo_v = pseudo_label(v, pass);
    const Tensor mask = draw_mask(batch.image, context.random->next());

    const Variable first = nets_.student->forward(Variable(kernels::copy_paste(a, u, mask)), pass);
    const Variable second = nets_.student->forward(Variable(kernels::copy_paste(v, b, mask)), pass);
    const LossValue loss_1 = bcp_loss(first, label_a, pseudo_u, mask, loss_options(1.0, alpha_));
    const LossValue loss_2 = bcp_loss(second, pseudo_v, label_b, mask, loss_options(alpha_, 1.0));
    nets_.update(loss_1.loss + loss_2.loss, context.learning_rate);
    ema_update(nets_.teacher->parameters(), nets_.student->parameters(),
               semivox::ema_decay(ema_decay_, EmaWarmup::none, context.iteration), ema_buffers_);

    const std::vector<double> r1 = loss_1.results.to_doubles(), r2 = loss_2.results.to_doubles();
    StepReport report{{"loss", r1[0] + r2[0]}};
    for (int i = 0; i < 2; ++i) {
      static constexpr const char* names[] = {"loss_outer_inner", "loss_ce",    "loss_dice", "ce_outer",
                                              "ce_inner",         "dice_outer", "dice_inner"};
      const std::vector<double>& r = i == 0 ? r1 : r2;
      for (size_t k = 0; k < r.size(); ++k) report.emplace_back(text(names[k], "_", i + 1), r[k]);
    }
    return report;
  }

  /// The teacher, in training mode, decides; only the largest component of each class is kept.
  Tensor pseudo_label(const Tensor& image, const Pass& pass) {
    const NoGrad no_grad;
    const Tensor logits = nets_.teacher->forward(Variable(image), pass).value();
    Tensor labels = kernels::hard_labels(logits, true);
    kernels::largest_component_per_class(labels, static_cast<int>(logits.shape().c),
                                         static_cast<int>(neighbours_), labels);
    return labels;
  }

  static std::array<int64_t, 3> size_of_patch(const Tensor& image) {
    return {image.shape().d, image.shape().h, image.shape().w};
  }

  Tensor draw_mask(const Tensor& image, const RandomStream& random) const {
    const auto size = size_of_patch(image);
    std::vector<kernels::Box> boxes;
    if (mask_ == "grid") {
      boxes = kernels::draw_grid_boxes(size, random);
    } else if (mask_ == "band") {
      boxes = {kernels::draw_band(size, random)};
    } else if (corner_ == "random") {
      boxes = {kernels::draw_box(size, ratio_, random)};
    } else {
      boxes = {kernels::box_at(size, ratio_, parse_corner(corner_))};
    }
    return kernels::box_mask(size, boxes, image.device());
  }

  BcpLossOptions loss_options(double outer_weight, double inner_weight) const {
    return {outer_weight, inner_weight, pooled_squares_, unmasked_background_};
  }

  double alpha_, ratio_;
  std::string mask_, corner_;
  double ema_decay_;
  bool ema_buffers_;
  double pretrain_;
  std::string continue_from_;
  int64_t neighbours_;
  bool pooled_squares_, unmasked_background_;
  OptimizerOptions optimizer_options_;
  StudentTeacher nets_;
};

const RegisterMethod registration(
    {"bcp", "Bai et al., Bidirectional copy-paste, CVPR 2023",
     "student trained on labelled and pseudo-labelled images pasted into each other",
     [](OptionReader& options) { return std::make_unique<Bcp>(options); }});

}  // namespace

}  // namespace semivox
