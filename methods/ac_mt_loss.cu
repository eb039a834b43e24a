#include "methods/ac_mt.hpp"

#include "methods/terms.hpp"

namespace semivox {

namespace {

struct AcMtLoss {
  const uint8_t* labels;  // (L, V)
  const uint8_t* mask;    // (B - L, V), or null: every voxel
  terms::Frozen teacher;  // (B - L, V, C) logits
  int64_t labeled, unlabeled, voxels;
  AcMtLossOptions options;
  double log_classes;  // entropies are divided by it

  static constexpr int kResults = 6;
  /// Sums behind those of CE and Dice: distance in the mask | voxels in the mask | entropy outside.
  SEMIVOX_HD static constexpr int sums(int channels) { return terms::CrossEntropyDice::sums(channels) + 3; }

  SEMIVOX_HD bool ambiguous(int64_t sample, int64_t v) const {
    return mask == nullptr || mask[sample * voxels + v] != 0;
  }

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    using T = terms::scalar_of<S>;
    S p[voxel::kMaxChannels];
    const S log_normalizer = softmax(z, channels, p);
    if (sample < labeled) {
      terms::CrossEntropyDice::voxel(z, p, log_normalizer, channels, labels[sample * voxels + v], t);
      return;
    }
    const int64_t own = sample - labeled;
    const int k = terms::CrossEntropyDice::sums(channels);
    if (ambiguous(own, v)) {
      T q[voxel::kMaxChannels] = {}, z_teacher[voxel::kMaxChannels] = {};
      terms::frozen_softmax(teacher, (own * voxels + v) * channels, channels, q, z_teacher);
      t[k] = terms::squared_distance(p, q, channels);
      t[k + 1] = S(1);
    }
    int weight = 0;  // by how many masks the voxel is unambiguous
    if (options.entropy == EntropyTerm::own) weight = ambiguous(own, v) ? 0 : 1;
    if (options.entropy == EntropyTerm::shared) {
      for (int64_t n = 0; n < unlabeled; ++n) weight += ambiguous(n, v) ? 0 : 1;
    }
    if (weight == 0) return;
    S entropy = S(0);
    for (int c = 0; c < channels; ++c) entropy = entropy - p[c] * logarithm(p[c] + T(1e-6));
    t[k + 2] = entropy * T(static_cast<double>(weight) / log_classes);
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int channels, S* results) const {
    const int k = terms::CrossEntropyDice::sums(channels);
    const int64_t masks = options.entropy == EntropyTerm::shared ? unlabeled : 1;
    results[1] = terms::CrossEntropyDice::cross_entropy(sums, 0, labeled, voxels);
    results[2] = terms::CrossEntropyDice::dice(sums, 0, options.dice_background ? 0 : 1, channels, labeled);
    const S inside = sums.total(k + 1, labeled, sums.samples);
    const S width = S(options.count_per_class ? static_cast<double>(channels) : 1.0);
    results[3] = sums.total(k, labeled, sums.samples) / (width * inside + S(1e-16));
    results[4] =
        sums.total(k + 2, labeled, sums.samples) / S(static_cast<double>(unlabeled * masks * voxels));
    results[5] = inside;
    results[0] = S(0.5) * (results[1] + results[2]) + S(options.lambda.get()) * (results[3] + results[4]);
  }
};

}  // namespace

LossValue ac_mt_loss(const Variable& logits, const Tensor& labels, const Tensor& teacher, const Tensor& mask,
                     const AcMtLossOptions& options) {
  const Shape shape = logits.shape();
  const int64_t labeled = labels.shape().n, unlabeled = shape.n - labeled;
  SEMIVOX_CHECK(teacher.shape() == shape.with_samples(unlabeled), "teacher's logits ", teacher.shape().str(),
                " for ", shape.str());
  SEMIVOX_CHECK(!mask.defined() || mask.shape() == teacher.shape().with_channels(1), "mask ",
                mask.shape().str(), " for ", teacher.shape().str());
  return evaluate("ac_mt_loss",
                  AcMtLoss{labels.data<uint8_t>(), mask.defined() ? mask.data<uint8_t>() : nullptr,
                           terms::Frozen(teacher), labeled, unlabeled, shape.voxels(), options,
                           std::log(static_cast<double>(shape.c))},
                  {logits}, {labels, teacher, mask});
}

}  // namespace semivox
