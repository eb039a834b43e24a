#include "methods/dice_loss.hpp"

namespace semivox {

namespace {

// Per class: sum p y, sum p (or p^2) + sum y.
struct DiceLoss {
  const uint8_t* labels;  // (N, V)
  int64_t voxels;
  DiceForm form;

  static constexpr int kResults = 1;
  SEMIVOX_HD static constexpr int sums(int channels) { return 2 * channels; }

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    S p[voxel::kMaxChannels];
    softmax(z, channels, p);
    const int label = labels[sample * voxels + v];
    SEMIVOX_UNROLL
    for (int c = 0; c < channels; ++c) {
      t[2 * c + 1] = form.squared ? p[c] * p[c] : p[c];
      if (c != label) continue;
      t[2 * c] = p[c];
      t[2 * c + 1] = t[2 * c + 1] + S(1);
    }
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int channels, S* results) const {
    S total = S(0);
    for (int c = form.first_class; c < channels; ++c) {
      const S overlap = S(form.overlap) * sums.total(2 * c) + S(form.numerator_smooth);
      total = total + S(1) - overlap / (sums.total(2 * c + 1) + S(form.smooth));
    }
    results[0] = total / S(static_cast<double>(channels - form.first_class));
  }
};

}  // namespace

LossValue dice_loss(const Variable& logits, const Tensor& labels, const DiceForm& form) {
  SEMIVOX_CHECK(labels.shape() == logits.shape().with_channels(1), labels.shape().str(), " labels for ",
                logits.shape().str());
  return evaluate("dice_loss", DiceLoss{labels.data<uint8_t>(), logits.shape().voxels(), form}, {logits},
                  {labels});
}

}  // namespace semivox
