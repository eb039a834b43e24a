// Mean Teacher (Tarvainen and Valpola, "Mean teachers are better role models", NIPS 2017) for segmentation.
//
//   L = 1/2 (CE + Dice)  on the labelled samples  +  lambda(t) * mean over unlabelled voxels and classes of
//   (p_s - p_t)^2
//
// The teacher's weights are the exponential moving average of the student's; it sees the unlabelled samples
// with noise added. Dice is the mean over all classes, background included, pooled over the batch. Both
// networks run in training mode.
#include "methods/mean_teacher.hpp"

#include "kernels/uncertainty.hpp"
#include "methods/consistency_options.hpp"
#include "methods/method.hpp"
#include "methods/terms.hpp"

namespace semivox {

namespace {

struct MeanTeacherLoss {
  const uint8_t* labels;  // (L, V)
  terms::Frozen teacher;  // (U, V, C) logits
  int64_t labeled, voxels;
  int first_class;
  StepNumber lambda;

  static constexpr int kResults = 4;
  SEMIVOX_HD static constexpr int sums(int channels) { return terms::CrossEntropyDice::sums(channels) + 1; }

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    S p[voxel::kMaxChannels];
    const S log_normalizer = softmax(z, channels, p);
    if (sample < labeled) {
      terms::CrossEntropyDice::voxel(z, p, log_normalizer, channels, labels[sample * voxels + v], t);
    } else {
      terms::scalar_of<S> z_teacher[voxel::kMaxChannels] = {}, q[voxel::kMaxChannels] = {};
      terms::frozen_softmax(teacher, ((sample - labeled) * voxels + v) * channels, channels, q, z_teacher);
      t[terms::CrossEntropyDice::sums(channels)] = terms::squared_distance(p, q, channels);
    }
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int channels, S* results) const {
    const int64_t unlabeled = sums.samples - labeled;
    results[1] = terms::CrossEntropyDice::cross_entropy(sums, 0, labeled, voxels);
    results[2] = terms::CrossEntropyDice::dice(sums, 0, first_class, channels, labeled);
    results[3] = sums.total(terms::CrossEntropyDice::sums(channels), labeled, sums.samples) /
                 S(static_cast<double>(unlabeled * voxels * channels));
    results[0] = S(0.5) * (results[1] + results[2]) + S(lambda.get()) * results[3];
  }
};

class MeanTeacher : public StudentTeacherMethod {
 public:
  explicit MeanTeacher(OptionReader& options)
      : consistency_(options),
        warmup_(
            options.integer("consistency_from", 0, "first iteration with the consistency term (2D: 1000)")),
        dice_background_(
            options.flag("dice_background", true, "average Dice over all classes, background included")) {}

  void build(const MethodSetup& setup) override { nets_.build(setup, true); }

  StepReader queue(const Batch& batch, const StepContext& context) override {
    const RandomStream noise = context.random->next();
    const Pass pass{true, context.random};
    const Variable logits = nets_.student->forward(Variable(batch.image), pass);
    Tensor target;
    {
      const NoGrad no_grad;
      const Tensor noisy = kernels::noisy_copies(batch.unlabeled_images(), 1, consistency_.noise,
                                                 consistency_.noise_clip, noise);
      target = nets_.teacher->forward(Variable(noisy), pass).value();
    }
    const StepNumber lambda = step_value([this, &context] {
      return context.iteration < warmup_ ? 0.0 : consistency_.ramp.at(context.iteration);
    });
    const LossValue loss = mean_teacher_loss(logits, batch.labels(), target, lambda, dice_background_);
    nets_.update(loss.loss, context.learning_rate);
    ema_update(nets_.teacher->parameters(), nets_.student->parameters(), consistency_.ema_in(context), false);
    return [results = loss.results, lambda] {
      const std::vector<double> r = results.to_doubles();
      return StepReport{{"loss", r[0]},
                        {"loss_ce", r[1]},
                        {"loss_dice", r[2]},
                        {"loss_consistency", r[3]},
                        {"consistency_weight", lambda.now()}};
    };
  }

 private:
  ConsistencyOptions consistency_;
  int64_t warmup_;
  bool dice_background_;
};

const RegisterMethod register_mean_teacher(
    {"mean_teacher", "Tarvainen and Valpola, Mean teachers are better role models, NIPS 2017",
     "consistency with a teacher whose weights are the student's moving average",
     [](OptionReader& options) { return std::make_unique<MeanTeacher>(options); }});

}  // namespace

LossValue mean_teacher_loss(const Variable& logits, const Tensor& labels, const Tensor& teacher,
                            StepNumber lambda, bool dice_background) {
  const Shape shape = logits.shape();
  terms::check_labels(labels, shape);
  SEMIVOX_CHECK(teacher.shape() == shape.with_samples(shape.n - labels.shape().n), "teacher ",
                teacher.shape().str(), " for ", shape.str());
  return evaluate("mean_teacher_loss",
                  MeanTeacherLoss{labels.data<uint8_t>(), terms::Frozen(teacher), labels.shape().n,
                                  logits.shape().voxels(), dice_background ? 0 : 1, lambda},
                  {logits}, {labels, teacher});
}

}  // namespace semivox
