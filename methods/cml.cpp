// CML: cross-view mutual learning (Wu et al., "Cross-view mutual learning for semi-supervised medical image
// segmentation", ACM Multimedia 2024).
//
// Two subnetworks see the same mixed images. S = 1/2 (CE + Dice), D pushes their embeddings apart.
//
//   pretrain (labelled A, B):    X = A*M + B*(1-M),   L = w_l [S(z1, Y) + S(z2, Y)] + w_d [D12 + D21]
//   selftrain: the same, and for unlabelled U, V with another mask M' and pseudo-labels P1, P2 of subnetwork
//     1, 2, each in training mode on the images before they are mixed:
//     X' = U*M' + V*(1-M')
//     Y1 = P2(U)*M' + P1(V)*(1-M'),   Y2 = P1(U)*M' + P2(V)*(1-M')
//     L += w_u [S(z1, Y1) + S(z2, Y2)] + w_d [D12 + D21]
//
// There is no teacher, no ramp-up and no threshold: the two networks teach each other, and their different
// embeddings keep them from agreeing on the same mistakes.
#include "methods/cml.hpp"

#include "kernels/conflict.hpp"
#include "kernels/mixing.hpp"
#include "methods/bcp.hpp"
#include "methods/copy_paste.hpp"

namespace semivox {

namespace {

class Cml : public StudentTeacherMethod {
 public:
  explicit Cml(OptionReader& options)
      : labeled_weight_(options.number("labeled_weight", 1, "weight w_l of the labelled images", 0)),
        unlabeled_weight_(
            options.number("unlabeled_weight", 1, "weight w_u of the unlabelled images (2D code: 0.5)", 0)),
        conflict_weight_(options.number("conflict_weight", 0.2,
                                        "weight w_d of the conflict of embeddings (2D code: 0.1)", 0)),
        region_(options),
        outside_from_other_(
            options.word("outside_from", "other", {"other", "self"},
                         "subnetwork whose pseudo-labels a subnetwork learns outside the box; "
                         "inside it is the other one (self: the paper's figure)") == "other"),
        phases_(options),
        neighbours_(read_neighbours(options)) {}

  std::vector<Phase> phases(const MethodSetup& setup) const override { return phases_(setup); }

  void build(const MethodSetup& setup) override { nets_.build(setup, false); }

  StepReader queue(const Batch& batch, const StepContext& context) override {
    const Pass pass{true, context.random};
    const Loss labeled = labeled_loss(batch, pass);
    Variable loss = labeled_weight_ * labeled.supervision + conflict_weight_ * labeled.conflict;
    Loss unlabeled;
    const bool selftrain = context.phase > 0;
    if (selftrain) {
      unlabeled = unlabeled_loss(batch.unlabeled_images(), pass);
      loss = loss + unlabeled_weight_ * unlabeled.supervision + conflict_weight_ * unlabeled.conflict;
    }
    nets_.update(loss, context.learning_rate);
    return [=] {
      StepReport report{{"loss", number_of(loss)}, {"loss_labeled", number_of(labeled.supervision)}};
      double conflict = number_of(labeled.conflict);
      if (selftrain) {
        report.emplace_back("loss_unlabeled", number_of(unlabeled.supervision));
        conflict += number_of(unlabeled.conflict);
      }
      report.emplace_back("loss_conflict", conflict);
      return report;
    };
  }

 private:
  /// Scalars of one mixed half of the batch: S of both subnetworks, D12 + D21.
  struct Loss {
    Variable supervision, conflict;
  };

  static double number_of(const Variable& scalar) { return scalar.value().to_doubles()[0]; }

  Loss loss_of(const Tensor& image, const Tensor& target_1, const Tensor& target_2, const Pass& pass) {
    const NetworkOutput output = nets_.student->forward_all(Variable(image), pass);
    return {cml_supervision(output.auxiliary[0], target_1).loss +
                cml_supervision(output.auxiliary[1], target_2).loss,
            conflict_loss(output.features).loss};
  }

  Loss labeled_loss(const Batch& batch, const Pass& pass) {
    const int64_t half = batch.labeled / 2;
    const Tensor mask = region_.draw(batch.image, pass.random->next());
    const auto mixed = [&](const Tensor& x) {
      return kernels::copy_paste(x.samples(0, half), x.samples(half, half), mask);
    };
    const Tensor label = mixed(batch.label);
    return loss_of(mixed(batch.image), label, label, pass);
  }

  Loss unlabeled_loss(const Tensor& image, const Pass& pass) {
    const int64_t half = image.shape().n / 2;
    Tensor pseudo[2];
    {
      const NoGrad no_grad;
      const NetworkOutput output = nets_.student->forward_all(Variable(image), pass);
      for (size_t k = 0; k < 2; ++k) pseudo[k] = pseudo_labels(output.auxiliary[k].value(), neighbours_);
    }
    const Tensor mask = region_.draw(image, pass.random->next());
    const auto mixed = [&](const Tensor& outside, const Tensor& inside) {
      return kernels::copy_paste(outside.samples(0, half), inside.samples(half, half), mask);
    };
    const Tensor &self = pseudo[0], &other = pseudo[1];  // as subnetwork 1 sees it
    const Tensor target_1 = outside_from_other_ ? mixed(other, self) : mixed(self, other);
    const Tensor target_2 = outside_from_other_ ? mixed(self, other) : mixed(other, self);
    return loss_of(mixed(image, image), target_1, target_2, pass);
  }

  double labeled_weight_, unlabeled_weight_, conflict_weight_;
  PastedRegion region_;
  bool outside_from_other_;
  CopyPastePhases phases_;
  int neighbours_;
};

const RegisterMethod register_cml(
    {"cml",
     "Wu et al., Cross-view mutual learning, ACM Multimedia 2024",
     "two networks with conflicting embeddings that teach each other on mixed images",
     [](OptionReader& options) { return std::make_unique<Cml>(options); },
     {"cml", "cml_2d", "cml_2d_shared"}});

}  // namespace

LossValue cml_supervision(const Variable& logits, const Tensor& labels) {
  return bcp_loss(logits, labels, labels, whole_mask(labels), {1.0, 0.0, false, false, false});
}

LossValue conflict_loss(const Variable& features) {
  const Tensor cosines = kernels::pair_cosines(features.value());
  LossValue value;
  value.results = kernels::conflict_forward(cosines);
  value.loss = Variable::result(
      value.results.slice(0, 1), {features}, false,
      [features = features.for_backward(), cosines](const Tensor& upstream) {
        features.add_gradient(kernels::conflict_backward(features.value(), cosines, upstream));
      });
  return value;
}

}  // namespace semivox
