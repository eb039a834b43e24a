// DyCON: dynamic uncertainty-aware consistency and contrastive learning (Assefa et al., CVPR 2025).
//
//   L = (CE + Dice)  +  w(t) * consistency  +  1/2 (FeCL + UnCL)
//
//   UnCL = mean_v [ sum_c (p_c - p'_c)^2 / (exp(beta H) + exp(beta H')) ]  +  beta mean_v [H + H']
//
// p, p' are student's and teacher's probabilities of all samples, H, H' their entropies; beta falls from 5 to
// 0.5, so uncertain voxels count less at first and more later. FeCL (kernels/fecl.hpp) contrasts embeddings
// of patches, the student's with each other and with the teacher's: patches of one class attract each other,
// the more the less alike they are. The class of a patch is the majority of its labels, on unlabelled images
// of the teacher's decisions.
#include "methods/dycon.hpp"

#include "engine/gradient_clip.hpp"
#include "kernels/fecl.hpp"
#include "kernels/patch_labels.hpp"
#include "kernels/uncertainty.hpp"
#include "layers/unit_vectors.hpp"
#include "methods/consistency_options.hpp"
#include "methods/method.hpp"
#include "methods/terms.hpp"

namespace semivox {

namespace {

constexpr double kEntropyEpsilon = 1e-6;

/// -sum_c p_c log(p_c + 1e-6)
template <class S>
SEMIVOX_HD inline S entropy(const S* p, int classes) {
  using T = terms::scalar_of<S>;
  S total = S(0);
  for (int c = 0; c < classes; ++c) total = total - p[c] * logarithm(p[c] + T(kEntropyEpsilon));
  return total;
}

// Sums: those of CE and Dice | consistency | UnCL's quotients | entropies of student and teacher.
struct DyconLoss {
  const uint8_t* labels;  // (L, V)
  terms::Frozen teacher;  // (B, V, C) logits
  int64_t labeled, voxels;
  DyconWeights weights;

  static constexpr int kResults = 5;
  SEMIVOX_HD static constexpr int sums(int channels) { return terms::CrossEntropyDice::sums(channels) + 3; }

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    using T = terms::scalar_of<S>;
    const int k = terms::CrossEntropyDice::sums(channels);
    S p[voxel::kMaxChannels];
    T z_teacher[voxel::kMaxChannels] = {}, q[voxel::kMaxChannels] = {};
    const S log_normalizer = softmax(z, channels, p);
    terms::frozen_softmax(teacher, (sample * voxels + v) * channels, channels, q, z_teacher);
    if (sample < labeled) {
      terms::CrossEntropyDice::voxel(z, p, log_normalizer, channels, labels[sample * voxels + v], t);
    } else {  // the published code applies softmax to probabilities here
      S p_twice[voxel::kMaxChannels];
      T q_twice[voxel::kMaxChannels] = {};
      softmax(static_cast<const S*>(p), channels, p_twice);
      softmax(static_cast<const T*>(q), channels, q_twice);
      t[k] = terms::squared_distance(p_twice, q_twice, channels);
    }
    const T beta = T(weights.beta.get());
    const S h = entropy(p, channels);
    const T h_teacher = entropy(q, channels);
    t[k + 1] =
        terms::squared_distance(p, q, channels) / (exponential(beta * h) + exponential(beta * h_teacher));
    t[k + 2] = h + h_teacher;
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int channels, S* results) const {
    const int k = terms::CrossEntropyDice::sums(channels);
    const auto all = static_cast<double>(sums.samples * voxels);
    const auto unlabeled = static_cast<double>((sums.samples - labeled) * voxels * channels);
    results[1] = terms::CrossEntropyDice::cross_entropy(sums, 0, labeled, voxels);
    results[2] = terms::CrossEntropyDice::dice(sums, 0, 1, channels, labeled);
    results[3] = sums.total(k, labeled, sums.samples) / S(unlabeled);
    results[4] = (sums.total(k + 1) + S(weights.beta.get()) * sums.total(k + 2)) / S(all);
    results[0] = S(weights.supervised) * (results[1] + results[2]) +
                 S(weights.consistency.get()) * results[3] + S(weights.unsupervised) * results[4];
  }
};

/// Samples and constants of FeCL.
struct ContrastOptions {
  kernels::FeclOptions fecl;
  double threshold_low, threshold_high;
  int64_t threshold_epochs;
  bool all_samples;
  kernels::PatchVoxels patch;

  explicit ContrastOptions(OptionReader& options)
      : fecl{options.number("temperature", 0.6, "FeCL: divides similarities of embeddings", 1e-3),
             options.number("focal", 2, "FeCL: exponent gamma of the focal weight, 0: none", 0),
             options.number("teacher_negatives", 1, "FeCL: weight of the pairs with the teacher, 0: none", 0),
             0},
        threshold_low(options.number("threshold_low", 0.3,
                                     "FeCL: first cosine above which a teacher's patch counts", -1, 1)),
        threshold_high(options.number("threshold_high", 0.5, "FeCL: last one", -1, 1)),
        threshold_epochs(
            options.integer("threshold_epochs", 1500, "FeCL: epochs from the first to the last")),
        all_samples(options.word("contrast_on", "all", {"all", "unlabeled"},
                                 "FeCL: samples that it runs over") == "all"),
        patch(options.word("patch_labels", "all", {"all", "central"},
                           "FeCL: voxels of a patch that decide on its class") == "all"
                  ? kernels::PatchVoxels::all
                  : kernels::PatchVoxels::central) {}
};

class Dycon : public StudentTeacherMethod {
 public:
  explicit Dycon(OptionReader& options)
      : supervised_(options.number("supervised", 1, "weight of CE + Dice", 0)),
        unsupervised_(options.number("unsupervised", 0.5, "weight of FeCL + UnCL", 0)),
        beta_high_(options.number("beta_high", 5, "UnCL: first beta", 1e-6)),
        beta_low_(options.number("beta_low", 0.5, "UnCL: last beta; beta_high: constant", 1e-6)),
        epoch_(options.integer("epoch", 6, "iterations per epoch: labelled scans / labelled images per batch",
                               1)),
        clip_(options.number("clip", 1, "largest norm of the gradient, 0: no clipping", 0)),
        contrast_(options),
        consistency_(options, 200) {}

  void build(const MethodSetup& setup) override {
    require_network(find_method("dycon"), setup.network.name, "--network");
    unused_ = setup.network.name == "vnet_dycon" ? "out_conv2." : "final.";
    epochs_ = setup.iterations / epoch_ + 1;
    nets_.build(setup, true);
  }

  StepReader queue(const Batch& batch, const StepContext& context) override {
    const RandomStream noise = context.random->next();
    const Pass pass{true, context.random};
    const NetworkOutput output = nets_.student->forward_all(Variable(batch.image), pass);
    const NetworkOutput target = teach(batch.image, noise, pass);

    const DyconWeights weights{
        supervised_, consistency_.ramp.in(context), unsupervised_,
        step_value([this, &context] { return dycon_beta(epoch(context), epochs_, beta_high_, beta_low_); })};
    const LossValue voxelwise = dycon_loss(output.logits, batch.labels(), target.logits.value(), weights);
    const LossValue contrast = contrast_loss(output.features, target, batch, context);
    const Tensor norm = update(voxelwise.loss + unsupervised_ * contrast.loss, context.learning_rate);
    ema_update(nets_.teacher->parameters(), nets_.student->parameters(), consistency_.ema_in(context), false);
    return [this, voxels = voxelwise.results, patches = contrast.results, norm, weights] {
      const std::vector<double> r = voxels.to_doubles(), f = patches.to_doubles();
      return StepReport{{"loss", r[0] + unsupervised_ * f[0]},
                        {"loss_ce", r[1]},
                        {"loss_dice", r[2]},
                        {"loss_consistency", r[3]},
                        {"loss_uncl", r[4]},
                        {"loss_fecl", f[0]},
                        {"loss_fecl_teacher", f[2]},
                        {"hard_negatives", f[3]},
                        {"consistency_weight", weights.consistency.now()},
                        {"beta", weights.beta.now()},
                        {"gradient_norm", norm.to_doubles()[0]}};
    };
  }

 private:
  int64_t epoch(const StepContext& context) const { return context.iteration / epoch_; }

  /// The teacher, in training mode, on noisy images.
  NetworkOutput teach(const Tensor& images, const RandomStream& noise, const Pass& pass) {
    const NoGrad no_grad;
    const Tensor noisy = kernels::noisy_copies(images, 1, consistency_.noise, consistency_.noise_clip, noise);
    return nets_.teacher->forward_all(Variable(noisy), pass);
  }

  LossValue contrast_loss(const Variable& features, const NetworkOutput& target, const Batch& batch,
                          const StepContext& context) const {
    const int64_t samples = batch.image.shape().n, first = contrast_.all_samples ? 0 : batch.labeled;
    Tensor voxels = kernels::hard_labels(target.logits.value(), false);
    voxels.samples(0, batch.labeled).copy_from(batch.labels());
    const Shape grid = features.shape();
    const Tensor classes = kernels::patch_labels(voxels.samples(first, samples - first),
                                                 {grid.d, grid.h, grid.w}, contrast_.patch);
    Tensor teacher;
    {
      const NoGrad no_grad;
      teacher = unit_vectors(target.features).value().samples(first, samples - first);
    }
    kernels::FeclOptions options = contrast_.fecl;
    options.threshold = step_value([this, &context] {
      return dycon_threshold(epoch(context), contrast_.threshold_epochs, contrast_.threshold_low,
                             contrast_.threshold_high);
    });
    return kernels::fecl(unit_vectors(features.samples(first, samples - first)), teacher, classes, options);
  }

  /// Returns the gradient's norm before it was clipped. The head that no loss reaches stays as it is: without
  /// a gradient there is no weight decay.
  Tensor update(const Variable& loss, StepNumber learning_rate) {
    ParameterSet& parameters = nets_.student->parameters();
    parameters.zero_gradients();
    loss.backward();
    const Tensor norm = clip_gradients(parameters, clip_ > 0 ? clip_ : 1e300);
    std::vector<std::pair<Tensor, Tensor>> unused;
    for (Parameter& p : parameters.parameters()) {
      if (p.name.starts_with(unused_)) unused.emplace_back(p.value, p.value.clone());
    }
    nets_.optimizer->step(learning_rate);
    for (auto& [value, kept] : unused) value.copy_from(kept);
    return norm;
  }

  double supervised_, unsupervised_, beta_high_, beta_low_;
  int64_t epoch_;
  double clip_;
  ContrastOptions contrast_;
  ConsistencyOptions consistency_;
  int64_t epochs_ = 1;
  std::string unused_;  // prefix of the head's parameters
};

const RegisterMethod register_dycon(
    {"dycon",
     "Assefa et al., DyCON, CVPR 2025",
     "mean teacher with entropy-weighted consistency and contrast between patch embeddings",
     [](OptionReader& options) { return std::make_unique<Dycon>(options); },
     {"unet3d_dycon", "unet3d_dycon_aspp", "vnet_dycon"}});

}  // namespace

LossValue dycon_loss(const Variable& logits, const Tensor& labels, const Tensor& teacher,
                     const DyconWeights& weights) {
  SEMIVOX_CHECK(teacher.shape() == logits.shape() &&
                    labels.shape() == logits.shape().with_channels(1).with_samples(labels.shape().n),
                "teacher ", teacher.shape().str(), ", labels ", labels.shape().str(), " for ",
                logits.shape().str());
  return evaluate("dycon_loss",
                  DyconLoss{labels.data<uint8_t>(), terms::Frozen(teacher), labels.shape().n,
                            logits.shape().voxels(), weights},
                  {logits}, {labels, teacher});
}

double dycon_beta(int64_t epoch, int64_t epochs, double highest, double lowest) {
  return highest * std::pow(lowest / highest, static_cast<double>(epoch) / static_cast<double>(epochs));
}

double dycon_threshold(int64_t epoch, int64_t rampup, double lowest, double highest) {
  return lowest +
         (highest - lowest) * sigmoid_rampup(static_cast<double>(epoch), static_cast<double>(rampup));
}

}  // namespace semivox
