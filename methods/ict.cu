// ICT: interpolation consistency training (Verma et al., "Interpolation consistency training for
// semi-supervised learning", IJCAI 2019, as in SSL4MIS).
//
//   u_mix = (1-g) u0 + g u1,   q = (1-g) softmax(teacher(u0)) + g softmax(teacher(u1)),   g ~ Beta(a, a)
//   L = 1/2 (CE + Dice)  on the labelled samples  +  lambda(t) * mean over the mixed voxels and classes of
//   (softmax(student(u_mix)) - q)^2
//
// A mean teacher without noise: what lies between two images shall be predicted as what lies between their
// predictions. The unlabelled samples are mixed in pairs, the first half with the second, one g per pair.
// The teacher sees each half by itself. Both networks run in training mode.
#include "methods/ict.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "engine/parameters.hpp"
#include "kernels/interpolate_samples.hpp"
#include "kernels/uncertainty.hpp"
#include "methods/consistency_options.hpp"
#include "methods/method.hpp"
#include "methods/supervised_loss.hpp"
#include "methods/terms.hpp"

namespace semivox {

namespace {

struct DistanceToTarget {
  terms::Frozen target;  // (N, V, C) probabilities
  int64_t voxels;

  static constexpr int kResults = 1;
  SEMIVOX_HD static constexpr int sums(int) { return 1; }

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    S p[voxel::kMaxChannels];
    softmax(z, channels, p);
    terms::scalar_of<S> q[voxel::kMaxChannels] = {};
    target.load((sample * voxels + v) * channels, channels, q);
    t[0] = terms::squared_distance(p, q, channels);
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int channels, S* results) const {
    results[0] = sums.total(0) / S(static_cast<double>(sums.samples * voxels * channels));
  }
};

/// "random" gives -1.
double parse_mix(const std::string& value) {
  if (value == "random") return -1;
  double gamma = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), gamma);
  if (error != std::errc() || end != value.data() + value.size() || !(gamma >= 0 && gamma <= 1)) {
    throw UsageError(text("option mix: found '", value, "', expected a number from 0 to 1, or random"));
  }
  return gamma;
}

/// [a, b] along the samples.
Tensor join_samples(const Tensor& a, const Tensor& b) {
  const int64_t na = a.shape().n, nb = b.shape().n;
  Tensor joined = Tensor::empty(a.shape().with_samples(na + nb), a.dtype(), a.device());
  joined.samples(0, na).copy_from(a);
  joined.samples(na, nb).copy_from(b);
  return joined;
}

class Ict : public StudentTeacherMethod {
 public:
  explicit Ict(OptionReader& options)
      : ramp_(options, 0.1, 200),
        ema_decay_(options.number("ema_decay", 0.99, "decay of the teacher's weights", 0, 1)),
        alpha_(options.number("mix_alpha", 0.2, "the share of the second image is drawn from Beta(a, a)",
                              0.01, 1)),
        mix_(parse_mix(options.string("mix", "random", "share of the second image, or random"))),
        dice_background_(
            options.flag("dice_background", true, "average Dice over all classes, background included")) {}

  std::vector<Phase> phases(const MethodSetup& setup) const override {
    std::vector<Phase> phases = half_labeled_phase(setup);
    if (phases[0].unlabeled % 2 != 0) {
      throw UsageError(text("--batch: found ", setup.batch, " with ", phases[0].unlabeled,
                            " unlabelled, expected an even number of them: they are mixed in pairs"));
    }
    return phases;
  }

  void build(const MethodSetup& setup) override { nets_.build(setup, true); }

  StepReader queue(const Batch& batch, const StepContext& context) override {
    const Tensor unlabeled = batch.unlabeled_images();
    const int64_t pairs = unlabeled.shape().n / 2;
    const Tensor u0 = unlabeled.samples(0, pairs), u1 = unlabeled.samples(pairs, pairs);
    std::vector<StepNumber> gamma;
    for (int64_t k = 0; k < pairs; ++k) {
      gamma.push_back(step_value([this, random = context.random->next()] {
        if (mix_ >= 0) return mix_;
        return static_cast<double>(
            static_cast<float>(draw_beta(alpha_, random.now())));  // as images are mixed
      }));
    }
    const Pass pass{true, context.random};
    const Tensor input = join_samples(batch.labeled_images(), kernels::interpolate_samples(u0, u1, gamma));
    const Variable logits = nets_.student->forward(Variable(input), pass);
    Tensor target;
    {
      const NoGrad no_grad;
      const Tensor q0 = kernels::softmax(nets_.teacher->forward(Variable(u0), pass).value());
      const Tensor q1 = kernels::softmax(nets_.teacher->forward(Variable(u1), pass).value());
      target = kernels::interpolate_samples(q0, q1, gamma);
    }
    const StepNumber lambda = ramp_.in(context);
    const LossValue supervised =
        supervised_loss(logits.samples(0, batch.labeled), batch.labels(), dice_background_);
    const LossValue consistency = distance_to_target(logits.samples(batch.labeled, pairs), target);
    nets_.update(supervised.loss + lambda * consistency.loss, context.learning_rate);
    ema_update(nets_.teacher->parameters(), nets_.student->parameters(), ramped_ema_in(ema_decay_, context),
               false);
    return [of_labels = supervised.results, of_mix = consistency.results, lambda, mix = gamma[0]] {
      const std::vector<double> s = of_labels.to_doubles(), c = of_mix.to_doubles();
      return StepReport{{"loss", s[0] + lambda.now() * c[0]},
                        {"loss_ce", s[1]},
                        {"loss_dice", s[2]},
                        {"loss_consistency", c[0]},
                        {"consistency_weight", lambda.now()},
                        {"mix", mix.now()}};
    };
  }

 private:
  RampOptions ramp_;
  double ema_decay_, alpha_, mix_;
  bool dice_background_;
};

const RegisterMethod register_ict(
    {"ict", "Verma et al., Interpolation consistency training, IJCAI 2019",
     "mean teacher whose target for a mix of two images is the mix of its predictions",
     [](OptionReader& options) { return std::make_unique<Ict>(options); }});

}  // namespace

LossValue distance_to_target(const Variable& logits, const Tensor& target) {
  SEMIVOX_CHECK(target.shape() == logits.shape(), "probabilities ", target.shape().str(), " for ",
                logits.shape().str());
  return evaluate("distance_to_target", DistanceToTarget{terms::Frozen(target), logits.shape().voxels()},
                  {logits}, {target});
}

double draw_beta(double alpha, const RandomStream& random) {
  SEMIVOX_CHECK(alpha > 0 && alpha <= 1, "Beta distribution with parameter ", alpha);
  for (uint64_t draw = 0;; draw += 2) {
    // x = u^(1/alpha) and y = v^(1/alpha) underflow for small alpha: their logarithms do not.
    const double log_x = std::log(static_cast<double>(random.uniform(draw))) / alpha;
    const double log_y = std::log(static_cast<double>(random.uniform(draw + 1))) / alpha;
    const double larger = std::max(log_x, log_y);
    const double log_sum = larger + std::log(std::exp(log_x - larger) + std::exp(log_y - larger));
    if (log_sum <= 0) return std::exp(log_x - log_sum);
  }
}

}  // namespace semivox
