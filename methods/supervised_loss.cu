#include "methods/supervised_loss.hpp"

#include "methods/terms.hpp"

namespace semivox {

namespace {

struct SupervisedLoss {
  const uint8_t* labels;  // (N, V)
  int64_t voxels;
  int first_class;

  static constexpr int kResults = 3;
  SEMIVOX_HD static constexpr int sums(int channels) { return terms::CrossEntropyDice::sums(channels); }

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    S p[voxel::kMaxChannels];
    const S log_normalizer = softmax(z, channels, p);
    terms::CrossEntropyDice::voxel(z, p, log_normalizer, channels, labels[sample * voxels + v], t);
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int channels, S* results) const {
    results[1] = terms::CrossEntropyDice::cross_entropy(sums, 0, sums.samples, voxels);
    results[2] = terms::CrossEntropyDice::dice(sums, 0, first_class, channels, sums.samples);
    results[0] = S(0.5) * (results[1] + results[2]);
  }
};

}  // namespace

LossValue supervised_loss(const Variable& logits, const Tensor& labels, bool dice_background) {
  SEMIVOX_CHECK(labels.shape() == logits.shape().with_channels(1), labels.shape().str(), " labels for ",
                logits.shape().str());
  return evaluate("supervised_loss",
                  SupervisedLoss{labels.data<uint8_t>(), logits.shape().voxels(), dice_background ? 0 : 1},
                  {logits}, {labels});
}

}  // namespace semivox
