#include "methods/sassnet.hpp"
#include "methods/signed_distance_terms.hpp"

namespace semivox {

namespace {

struct ShapeLoss {
  terms::ForegroundAndDistance supervised;
  double beta;

  static constexpr int kResults = 4;
  SEMIVOX_HD static constexpr int sums(int) { return terms::ForegroundAndDistance::kSums; }

  // z: logit and map; the map is the last channel, for every number of channels that is compiled.
  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    if (sample < supervised.labeled) supervised.voxel(z[0], sigmoid(z[0]), z[channels - 1], sample, v, t);
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int, S* results) const {
    results[1] = supervised.dice(sums);
    results[2] = supervised.distance(sums);
    results[3] = supervised.cross_entropy(sums);
    results[0] = results[1] + S(beta) * results[2];
  }
};

struct DiscriminatorLoss {
  int64_t labeled;

  static constexpr int kResults = 2;
  SEMIVOX_HD static constexpr int sums(int) { return 2; }

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t sample, int64_t, S* t) const {
    S p[voxel::kMaxChannels];
    const S log_normalizer = softmax(z, channels, p);
    const bool is_labeled = sample < labeled;
    const bool taken_for_labeled = value_of(z[channels - 1]) > value_of(z[0]);
    t[0] = log_normalizer - (is_labeled ? z[channels - 1] : z[0]);
    t[1] = S(is_labeled == taken_for_labeled ? 1 : 0);
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int, S* results) const {
    const S samples = S(static_cast<double>(sums.samples));
    results[0] = sums.total(0) / samples;
    results[1] = sums.total(1) / samples;
  }
};

}  // namespace

LossValue sassnet_supervised_loss(const Variable& logit, const Variable& map, const Tensor& labels,
                                  const Tensor& target, double distance_weight) {
  SEMIVOX_CHECK(logit.shape().c == 1 && map.shape().c == 1 && labels.shape() == target.shape(), "logit ",
                logit.shape().str(), ", map ", map.shape().str(), ", labels ", labels.shape().str(),
                ", target ", target.shape().str());
  terms::check_labels(labels, logit.shape());
  return evaluate(
      "sassnet_supervised_loss",
      ShapeLoss{{labels.data<uint8_t>(), target.data<float>(), labels.shape().n, logit.shape().voxels()},
                distance_weight},
      {logit, map}, {labels, target});
}

LossValue discriminator_loss(const Variable& logits, int64_t labeled) {
  SEMIVOX_CHECK(logits.shape().c == 2 && logits.shape().voxels() == 1, "logits ", logits.shape().str());
  return evaluate("discriminator_loss", DiscriminatorLoss{labeled}, {logits}, {});
}

}  // namespace semivox
