// UA-MT: uncertainty-aware mean teacher (Yu et al., "Uncertainty-aware self-ensembling model for
// semi-supervised 3D left atrium segmentation", MICCAI 2019).
//
//   L = 1/2 (CE + Dice)  +  lambda(t) * sum_v m_v d_v / (C sum_v m_v),     m_v = [u_v < H(t)]
//
// d is the squared distance (or KL divergence) of student and teacher probabilities, u the entropy of the
// mean of T = 8 stochastic teacher passes with dropout and input noise, H(t) a threshold that rises to ln 2.
// Both networks run in training mode throughout; the teacher's passes see batches of their own, hence their
// own batch statistics.
#include "kernels/uncertainty.hpp"
#include "methods/consistency_options.hpp"
#include "methods/method.hpp"
#include "methods/terms.hpp"
#include "methods/ua_mt.hpp"

namespace semivox {

namespace {

struct UaMtLoss {
  const uint8_t* labels;           // (L, V)
  terms::Frozen teacher;           // (B - first, V, C) logits of one teacher pass
  terms::Frozen mean;              // (B - first, V, C) mean probabilities of the T passes
  int64_t labeled, first, voxels;  // the consistency term runs over samples first ... B-1
  StepNumber lambda, threshold;
  bool kl;

  static constexpr int kResults = 5;
  SEMIVOX_HD static constexpr int sums(int channels) { return terms::CrossEntropyDice::sums(channels) + 2; }

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    using T = terms::scalar_of<S>;
    S p[voxel::kMaxChannels];
    const S log_normalizer = softmax(z, channels, p);
    if (sample < labeled) {
      terms::CrossEntropyDice::voxel(z, p, log_normalizer, channels, labels[sample * voxels + v], t);
    }
    if (sample < first) return;
    const int64_t begin = ((sample - first) * voxels + v) * channels;
    T m[voxel::kMaxChannels] = {}, q[voxel::kMaxChannels] = {}, z_teacher[voxel::kMaxChannels] = {};
    mean.load(begin, channels, m);
    T u = T(0);
    for (int c = 0; c < channels; ++c) u -= m[c] * logarithm(m[c] + T(1e-6));
    if (!(u < T(threshold.get()))) return;
    const T log_teacher = terms::frozen_softmax(teacher, begin, channels, q, z_teacher);
    S distance = S(0);
    if (kl) {
      for (int c = 0; c < channels; ++c) {
        distance = distance + q[c] * ((z_teacher[c] - log_teacher) - (z[c] - log_normalizer));
      }
    } else {
      distance = terms::squared_distance(p, q, channels);
    }
    const int k = terms::CrossEntropyDice::sums(channels);
    t[k] = distance;
    t[k + 1] = S(1);
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int channels, S* results) const {
    const int k = terms::CrossEntropyDice::sums(channels);
    const S mask = sums.total(k + 1);
    results[1] = terms::CrossEntropyDice::cross_entropy(sums, 0, labeled, voxels);
    results[2] = terms::CrossEntropyDice::dice(sums, 0, 1, channels, labeled);
    results[3] = sums.total(k) / (S(static_cast<double>(channels)) * mask + S(1e-16));
    results[4] = mask;
    results[0] = S(0.5) * (results[1] + results[2]) + S(lambda.get()) * results[3];
  }
};

class UaMt : public StudentTeacherMethod {
 public:
  explicit UaMt(OptionReader& options)
      : consistency_(options),
        passes_(options.integer("passes", 8, "stochastic teacher passes T, even", 2, 64)),
        threshold_ramp_(
            options.integer("threshold_rampup", 6000, "iterations until the threshold reaches ln 2")),
        kl_(options.word("consistency_type", "mse", {"mse", "kl"}, "distance of student and teacher") ==
            "kl"),
        on_all_(options.word("consistency_on", "unlabeled", {"unlabeled", "all"},
                             "samples that the consistency term runs over") == "all") {
    if (passes_ % 2 != 0)
      throw UsageError(text("option passes: found ", passes_, ", expected an even number"));
  }

  void build(const MethodSetup& setup) override { nets_.build(setup, true); }

  StepReader queue(const Batch& batch, const StepContext& context) override {
    const Pass pass{true, context.random};
    const Variable logits = nets_.student->forward(Variable(batch.image), pass);
    const Tensor images = on_all_ ? batch.image : batch.unlabeled_images();
    Tensor target, mean;
    {
      const NoGrad no_grad;
      target = teach(images, 1, pass);
      mean = Tensor::zeros(target.shape(), target.dtype(), target.device());
      for (int64_t call = 0; call < passes_ / 2; ++call) {  // two passes share one batch, [images, images]
        kernels::accumulate_softmax(teach(images, 2, pass), 2, 1.0 / static_cast<double>(passes_), mean);
      }
    }
    const StepNumber lambda = consistency_.ramp.in(context);
    const StepNumber threshold =
        step_value([this, &context] { return ua_mt_threshold(context.iteration, threshold_ramp_); });
    const Tensor labels = batch.labels();
    const LossValue loss =
        ua_mt_loss(logits, labels, target, mean, on_all_ ? 0 : batch.labeled, lambda, threshold, kl_);
    nets_.update(loss.loss, context.learning_rate);
    ema_update(nets_.teacher->parameters(), nets_.student->parameters(), consistency_.ema_in(context), false);
    return [results = loss.results, lambda, threshold] {
      const std::vector<double> r = results.to_doubles();
      return StepReport{{"loss", r[0]},
                        {"loss_ce", r[1]},
                        {"loss_dice", r[2]},
                        {"loss_consistency", r[3]},
                        {"consistency_weight", lambda.now()},
                        {"uncertainty_threshold", threshold.now()},
                        {"mask_voxels", r[4]}};
    };
  }

 private:
  /// Teacher logits of `copies` copies of the images, each with noise of its own.
  Tensor teach(const Tensor& images, int64_t copies, const Pass& pass) {
    const RandomStream noise = pass.random->next();
    const Tensor noisy =
        kernels::noisy_copies(images, copies, consistency_.noise, consistency_.noise_clip, noise);
    return nets_.teacher->forward(Variable(noisy), pass).value();
  }

  ConsistencyOptions consistency_;
  int64_t passes_, threshold_ramp_;
  bool kl_, on_all_;
};

const RegisterMethod register_ua_mt(
    {"ua_mt", "Yu et al., Uncertainty-aware self-ensembling model, MICCAI 2019",
     "mean teacher whose consistency leaves out voxels of high predictive entropy",
     [](OptionReader& options) { return std::make_unique<UaMt>(options); }});

}  // namespace

LossValue ua_mt_loss(const Variable& logits, const Tensor& labels, const Tensor& teacher, const Tensor& mean,
                     int64_t first, StepNumber lambda, StepNumber threshold, bool kl) {
  const Shape shape = logits.shape();
  terms::check_labels(labels, shape);
  SEMIVOX_CHECK(teacher.shape() == shape.with_samples(shape.n - first) && mean.shape() == teacher.shape(),
                "teacher ", teacher.shape().str(), ", mean ", mean.shape().str(), " for ", shape.str());
  return evaluate("ua_mt_loss",
                  UaMtLoss{labels.data<uint8_t>(), terms::Frozen(teacher), terms::Frozen(mean),
                           labels.shape().n, first, logits.shape().voxels(), lambda, threshold, kl},
                  {logits}, {labels, teacher, mean});
}

double ua_mt_threshold(int64_t iteration, int64_t rampup) {
  return (0.75 + 0.25 * sigmoid_rampup(static_cast<double>(iteration), static_cast<double>(rampup))) *
         std::log(2.0);
}

}  // namespace semivox
