// CVBM: cross-view bidirectional modelling (Cao, Li, Shi, "Background matters: a cross-view bidirectional
// modeling framework for semi-supervised medical image segmentation", IEEE Transactions on Image Processing
// 2025).
//
// BCP with a second decoder that learns the background, and a layer that mixes both decoders' logits:
//
//   L = sum over the two mixed batches of BCP
//         mix(z_fg; labels and P_fg) + mix(z_bg; background of the labels and P_bg)          region loss
//         + w(t) mean (softmax(z_fg) - softmax(-z_bg))^2                                     inverse
//         + w(t) mean (softmax(z_mix) - softmax(z_fg))^2                                     direct
//
// Pre-training has the region loss alone, on pairs of labelled images. The student's foreground decoder
// predicts.
#include "methods/cvbm.hpp"

#include "kernels/mixing.hpp"
#include "methods/bcp.hpp"
#include "methods/copy_paste.hpp"
#include "methods/ramp_options.hpp"

namespace semivox {

namespace {

class Cvbm : public StudentTeacherMethod {
 public:
  explicit Cvbm(OptionReader& options)
      : alpha_(options.number("pseudo_weight", 0.5, "weight alpha of the pseudo-labelled region", 0)),
        region_weight_(
            options.number("region_weight", 1, "weight of the region loss in self-training (2D code: 2)", 0)),
        ramp_(options, 1, 40,
              {.weight = "final weight of the consistency terms (2D code: 0.5)",
               .length = "steps until the weight is reached, 0: from the start (2D code: 200)"}),
        region_(options),
        ema_decay_(options.number("ema_decay", 0.99, "decay of the teacher's weights", 0, 1)),
        ema_buffers_(options.flag("ema_buffers", false, "average the running statistics, too (2D code)")),
        phases_(options),
        keep_momentum_(options.flag("keep_momentum", false,
                                    "self-training goes on with pre-training's optimiser (2D code)")),
        neighbours_(read_neighbours(options)),
        background_is_complement_(
            options.word("bg_pseudo", "official", {"official", "complement"},
                         "the background's pseudo-labels: of its own decoder, as released, or the "
                         "complement of the foreground's (the paper's figure)") == "complement"),
        pretrain_regions_(options.word("pretrain_loss", "mixed", {"mixed", "regions"},
                                       "CE and Dice of the mixed label map, or of each region by itself (2D "
                                       "code)") == "regions"),
        softmax_twice_(
            options.flag("softmax_twice", true,
                         "softmax of the softmax, as released: in Dice of the mixed label map, and "
                         "in the background's CE with more than two classes")),
        pooled_squares_(
            options.flag("dice_squared", false, "Dice with squares, pooled over the batch (2D code)")),
        unmasked_background_(options.flag("dice_unmasked_background", false,
                                          "ignore the mask in the background's Dice (2D code)")) {}

  std::vector<Phase> phases(const MethodSetup& setup) const override { return phases_(setup); }

  void build(const MethodSetup& setup) override {
    optimizer_options_ = setup.optimizer;
    nets_.build(setup, true);
  }

  void begin_phase(int64_t) override {
    nets_.teacher->parameters().copy_from(nets_.student->parameters());
    if (!keep_momentum_) nets_.optimizer = make_optimizer(optimizer_options_, nets_.student->parameters());
  }

  StepReader queue(const Batch& batch, const StepContext& context) override {
    return context.phase == 0 ? pretrain(batch, context) : selftrain(batch, context);
  }

 private:
  /// What both decoders learn in one region.
  struct Target {
    Tensor foreground;
    BackgroundTarget background;
  };
  /// Logits of one pass.
  struct Logits {
    Variable foreground, mixed, background;
  };

  static Logits forward(Network& network, const Tensor& image, const Pass& pass) {
    NetworkOutput output = network.forward_all(Variable(image), pass);
    return {output.logits, output.auxiliary[0], output.auxiliary[1]};
  }

  bool binary() const { return nets_.student->options().classes == 2; }

  /// Two classes: the background's decoder has labels of its own, 1 where there is background. More classes:
  /// it learns which ones are not there.
  BackgroundTarget complement(const Tensor& labels) const {
    return {binary() ? background_of(labels) : labels, false};
  }
  Target truth(const Tensor& labels) const { return {labels, complement(labels)}; }

  /// The teacher decides in training mode.
  Target pseudo_target(const Tensor& image, const Pass& pass) {
    const NoGrad no_grad;
    const Logits z = forward(*nets_.teacher, image, pass);
    const Tensor foreground = pseudo_labels(z.foreground.value(), neighbours_);
    if (background_is_complement_) return truth(foreground);
    return {foreground, {pseudo_labels(z.background.value(), neighbours_), !binary()}};
  }

  /// What a mixed image is held against outside the box and inside, and how much each counts.
  struct Regions {
    Target outer, inner;
    Tensor mask;
    double outer_weight, inner_weight;
    bool dice_softmax_twice = false;
  };

  LossValue foreground_loss(const Variable& z, const Regions& r) const {
    return bcp_loss(
        z, r.outer.foreground, r.inner.foreground, r.mask,
        {r.outer_weight, r.inner_weight, pooled_squares_, unmasked_background_, r.dice_softmax_twice});
  }

  LossValue background_loss(const Variable& z, const Regions& r) const {
    const BackgroundTarget &outer = r.outer.background, &inner = r.inner.background;
    if (!binary()) {
      return semivox::background_loss(z, outer, inner, r.mask,
                                      {r.outer_weight, r.inner_weight, softmax_twice_});
    }
    return bcp_loss(z, outer.labels, inner.labels, r.mask,
                    {r.outer_weight, r.inner_weight, pooled_squares_, false, r.dice_softmax_twice});
  }

  StepReader pretrain(const Batch& batch, const StepContext& context) {
    const int64_t half = batch.labeled / 2;
    const Tensor mask = region_.draw(batch.image, context.random->next());
    const Tensor image =
        kernels::copy_paste(batch.image.samples(0, half), batch.image.samples(half, half), mask);
    const Tensor label_a = batch.label.samples(0, half), label_b = batch.label.samples(half, half);
    Regions regions;
    if (pretrain_regions_) {
      regions = {truth(label_a), truth(label_b), mask, 1.0, 1.0};
    } else {
      const Target mixed = truth(kernels::copy_paste(label_a, label_b, mask));
      regions = {mixed, mixed, whole_mask(image), 1.0, 0.0, softmax_twice_};
    }
    const Logits z = forward(*nets_.student, image, {true, context.random});
    const LossValue foreground = foreground_loss(z.foreground, regions);
    const LossValue background = background_loss(z.background, regions);
    nets_.update(foreground.loss + background.loss, context.learning_rate);
    return [of_foreground = foreground.results, of_background = background.results] {
      const double r_foreground = of_foreground.to_doubles()[0], r_background = of_background.to_doubles()[0];
      return StepReport{{"loss", r_foreground + r_background},
                        {"loss_foreground", r_foreground},
                        {"loss_background", r_background}};
    };
  }

  /// Losses of one mixed batch: foreground, background, inverse, direct.
  std::array<LossValue, 4> mixed_losses(const Tensor& image, const Regions& regions, const Pass& pass) {
    const Logits z = forward(*nets_.student, image, pass);
    return {foreground_loss(z.foreground, regions), background_loss(z.background, regions),
            probability_distance(z.foreground, z.background, true),
            probability_distance(z.mixed, z.foreground, false)};
  }

  StepReader selftrain(const Batch& batch, const StepContext& context) {
    const int64_t half = batch.labeled / 2;
    const Tensor unlabeled = batch.unlabeled_images();
    const Tensor a = batch.image.samples(0, half), b = batch.image.samples(half, half);
    const Tensor u = unlabeled.samples(0, half), v = unlabeled.samples(half, half);
    const Target label_a = truth(batch.label.samples(0, half)),
                 label_b = truth(batch.label.samples(half, half));
    const Pass pass{true, context.random};
    const Target pseudo_u = pseudo_target(u, pass), pseudo_v = pseudo_target(v, pass);
    const Tensor mask = region_.draw(batch.image, context.random->next());

    const auto first =
        mixed_losses(kernels::copy_paste(a, u, mask), {label_a, pseudo_u, mask, 1.0, alpha_}, pass);
    const auto second =
        mixed_losses(kernels::copy_paste(v, b, mask), {pseudo_v, label_b, mask, alpha_, 1.0}, pass);
    const StepNumber w = ramp_.in(context);
    const std::array<StepNumber, 4> weights{region_weight_, region_weight_, w, w};
    Variable loss;
    for (size_t k = 0; k < 4; ++k) {
      const Variable term = weights[k] * (first[k].loss + second[k].loss);
      loss = loss.defined() ? loss + term : term;
    }
    nets_.update(loss, context.learning_rate);
    ema_update(nets_.teacher->parameters(), nets_.student->parameters(), ema_decay_, ema_buffers_);
    std::array<Tensor, 8> results;
    for (size_t k = 0; k < 4; ++k) {
      results[2 * k] = first[k].results;
      results[2 * k + 1] = second[k].results;
    }
    return [results, weights] {
      std::array<double, 4> terms{};
      double total = 0;
      for (size_t k = 0; k < 4; ++k) {
        terms[k] = results[2 * k].to_doubles()[0] + results[2 * k + 1].to_doubles()[0];
        total += weights[k].now() * terms[k];
      }
      return StepReport{{"loss", total},
                        {"loss_foreground", terms[0]},
                        {"loss_background", terms[1]},
                        {"loss_inverse", terms[2]},
                        {"loss_direct", terms[3]},
                        {"consistency_weight", weights[3].now()}};
    };
  }

  double alpha_, region_weight_;
  RampOptions ramp_;
  PastedRegion region_;
  double ema_decay_;
  bool ema_buffers_;
  CopyPastePhases phases_;
  bool keep_momentum_;
  int neighbours_;
  bool background_is_complement_, pretrain_regions_, softmax_twice_, pooled_squares_, unmasked_background_;
  OptimizerOptions optimizer_options_;
};

const RegisterMethod register_cvbm(
    {"cvbm",
     "Cao et al., Background matters, IEEE TIP 2025",
     "copy-paste with a second decoder that learns the background, consistent with the first",
     [](OptionReader& options) { return std::make_unique<Cvbm>(options); },
     {"cvbm", "cvbm_2d"}});

}  // namespace

}  // namespace semivox
