// URPC: uncertainty rectified pyramid consistency (Luo et al., "Efficient semi-supervised gross target volume
// of nasopharyngeal carcinoma segmentation via uncertainty rectified pyramid consistency", MICCAI 2021).
//
//   L = mean over the heads of 1/2 (CE + Dice), labelled samples
//     + lambda(t) * mean over the heads of R_s, unlabelled samples,
//   R_s = mean[(m - p_s)^2 w_s] / mean[w_s] + mean[v_s],   v_s = KL(m || p_s),   w_s = exp(-v_s)
//
// One U-Net with a head on every resolution of its decoder, all brought to full size, and one pass. On
// unlabelled samples every head is drawn to the mean m of all heads, less where it disagrees with it; the
// disagreement itself is a penalty. Nothing is held constant: the gradient flows through m and w_s.
#include "methods/urpc.hpp"

#include "methods/method.hpp"
#include "methods/ramp_options.hpp"
#include "methods/supervised_loss.hpp"
#include "methods/terms.hpp"

namespace semivox {

namespace {

constexpr int kHeads = 4;

struct PyramidConsistency {
  int64_t voxels;

  static constexpr int kResults = 1 + kHeads;
  /// Of every head: sum (m - p)^2 w, sum w, sum v.
  SEMIVOX_HD static constexpr int sums(int) { return 3 * kHeads; }

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t, int64_t, S* t) const {
    using T = terms::scalar_of<S>;
    const int classes = channels / kHeads;
    S p[voxel::kMaxChannels], log_p[voxel::kMaxChannels];
    for (int s = 0; s < kHeads; ++s) {
      const S log_normalizer = softmax(z + s * classes, classes, p + s * classes);
      for (int c = 0; c < classes; ++c) log_p[s * classes + c] = z[s * classes + c] - log_normalizer;
    }
    // log m from the logarithms of p: stays finite where every p underflows.
    S m[voxel::kMaxChannels], log_m[voxel::kMaxChannels];
    for (int c = 0; c < classes; ++c) {
      T highest = value_of(log_p[c]);
      for (int s = 1; s < kHeads; ++s) {
        const T value = value_of(log_p[s * classes + c]);
        highest = value > highest ? value : highest;
      }
      S sum = S(0), scaled = S(0);
      for (int s = 0; s < kHeads; ++s) {
        sum = sum + p[s * classes + c];
        scaled = scaled + exponential(log_p[s * classes + c] - highest);
      }
      m[c] = sum * T(1.0 / kHeads);
      log_m[c] = logarithm(scaled * T(1.0 / kHeads)) + highest;
    }
    for (int s = 0; s < kHeads; ++s) {
      S v = S(0);
      for (int c = 0; c < classes; ++c) v = v + m[c] * (log_m[c] - log_p[s * classes + c]);
      const S w = exponential(-v);
      S distance = S(0);
      for (int c = 0; c < classes; ++c) distance = distance + square(m[c] - p[s * classes + c]);
      t[3 * s] = distance * w;
      t[3 * s + 1] = w;
      t[3 * s + 2] = v;
    }
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int channels, S* results) const {
    const S count = S(static_cast<double>(sums.samples * voxels));
    const S classes = S(static_cast<double>(channels / kHeads));
    results[0] = S(0);
    for (int s = 0; s < kHeads; ++s) {
      const S distance = sums.total(3 * s) / (count * classes);
      const S weight = sums.total(3 * s + 1) / count;
      results[1 + s] = distance / (weight + S(1e-8)) + sums.total(3 * s + 2) / count;
      results[0] = results[0] + S(1.0 / kHeads) * results[1 + s];
    }
  }
};

class Urpc : public StudentTeacherMethod {
 public:
  explicit Urpc(OptionReader& options)
      : ramp_(options, 0.1, 400),
        dice_background_(
            options.flag("dice_background", true, "average Dice over all classes, background included")) {}

  void build(const MethodSetup& setup) override {
    require_network(find_method("urpc"), setup.network.name, "network");
    if (setup.network.classes * kHeads > voxel::kMaxChannels) {
      throw UsageError(text("classes: found ", setup.network.classes, ", expected at most ",
                            voxel::kMaxChannels / kHeads, " for method urpc"));
    }
    nets_.build(setup, false);
  }

  StepReader queue(const Batch& batch, const StepContext& context) override {
    const NetworkOutput output = nets_.student->forward_all(Variable(batch.image), {true, context.random});
    std::vector<Variable> heads{output.logits};
    heads.insert(heads.end(), output.auxiliary.begin(), output.auxiliary.end());
    const int64_t unlabeled = batch.image.shape().n - batch.labeled;
    Variable supervised;
    std::vector<LossValue> terms;
    std::vector<Variable> unlabeled_heads;
    for (const Variable& head : heads) {
      terms.push_back(supervised_loss(head.samples(0, batch.labeled), batch.labels(), dice_background_));
      supervised = supervised.defined() ? supervised + terms.back().loss : terms.back().loss;
      unlabeled_heads.push_back(head.samples(batch.labeled, unlabeled));
    }
    const StepNumber lambda = ramp_.in(context);
    const LossValue consistency = pyramid_consistency(unlabeled_heads);
    nets_.update((1.0 / kHeads) * supervised + lambda * consistency.loss, context.learning_rate);
    return [terms, of_heads = consistency.results, lambda] {
      double ce = 0, dice = 0;
      for (const LossValue& term : terms) {
        const std::vector<double> r = term.results.to_doubles();
        ce += r[1] / kHeads;
        dice += r[2] / kHeads;
      }
      const std::vector<double> r = of_heads.to_doubles();
      StepReport report{{"loss", 0.5 * (ce + dice) + lambda.now() * r[0]},
                        {"loss_ce", ce},
                        {"loss_dice", dice},
                        {"loss_consistency", r[0]},
                        {"consistency_weight", lambda.now()}};
      for (size_t s = 1; s <= kHeads; ++s) report.emplace_back(text("consistency_", s), r[s]);
      return report;
    };
  }

 private:
  RampOptions ramp_;
  bool dice_background_;
};

const RegisterMethod register_urpc({"urpc",
                                    "Luo et al., Uncertainty rectified pyramid consistency, MICCAI 2021",
                                    "one network whose heads of four resolutions agree where they are sure",
                                    [](OptionReader& options) { return std::make_unique<Urpc>(options); },
                                    {"unet3d_ds", "unet2d_urpc"}});

}  // namespace

LossValue pyramid_consistency(const std::vector<Variable>& heads) {
  SEMIVOX_CHECK(heads.size() == kHeads, heads.size(), " heads, expected ", kHeads);
  for (const Variable& head : heads) {
    SEMIVOX_CHECK(head.shape() == heads[0].shape(), head.shape().str(), " with ", heads[0].shape().str());
  }
  return evaluate("pyramid_consistency", PyramidConsistency{heads[0].shape().voxels()}, heads, {});
}

}  // namespace semivox
