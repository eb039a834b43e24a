#include "methods/cvbm.hpp"

namespace semivox {

namespace {

// Sums of region r (0 outer, 1 inner): CE', voxels | per class: sum p*T, sum p^2, sum T^2.
struct BackgroundLoss {
  const uint8_t* labels[2];  // outer, inner: (N, V)
  bool scaled[2];
  const uint8_t* mask;  // (V), 1 outside the box
  int64_t voxels;
  BackgroundLossOptions options;

  static constexpr int kResults = 3;
  SEMIVOX_HD static constexpr int region(int channels) { return 2 + 3 * channels; }
  SEMIVOX_HD static constexpr int sums(int channels) { return 2 * region(channels); }

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    S p[voxel::kMaxChannels] = {}, again[voxel::kMaxChannels] = {};
    const S log_normalizer = softmax(z, channels, p);
    const S log_again = softmax(static_cast<const S*>(p), channels, again);
    const int r = mask[v] != 0 ? 0 : 1;
    const int label = labels[r][sample * voxels + v];
    S* sums = t + r * region(channels);
    sums[1] = S(1);
    SEMIVOX_UNROLL
    for (int c = 0; c < channels; ++c) {
      const S target = S(scaled[r] ? (c == label ? c : 0) : (c == label ? 0 : 1));
      const S log_p = options.softmax_twice ? p[c] - log_again : z[c] - log_normalizer;
      sums[0] = sums[0] - target * log_p;
      S* d = sums + 2 + 3 * c;
      d[0] = p[c] * target;
      d[1] = p[c] * p[c];
      d[2] = target * target;
    }
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int channels, S* results) const {
    const S classes = S(static_cast<double>(channels)), smooth = S(1e-10);
    results[1] = results[2] = S(0);
    for (int r = 0; r < 2; ++r) {
      const S weight = S(r == 0 ? options.outer_weight : options.inner_weight);
      const int first = r * region(channels);
      results[1] = results[1] + weight * sums.total(first) / (sums.total(first + 1) + S(1e-16)) / classes;
      S dice = S(0);
      for (int c = 0; c < channels; ++c) {
        const int k = first + 2 + 3 * c;
        dice = dice + (S(2) * sums.total(k) + smooth) / (sums.total(k + 1) + sums.total(k + 2) + smooth);
      }
      results[2] = results[2] + weight * (S(1) - dice / classes);
    }
    results[0] = S(0.5) * (results[1] + results[2]);
  }
};

struct ProbabilityDistance {
  int64_t voxels;
  bool inverse;

  static constexpr int kResults = 1;
  SEMIVOX_HD static constexpr int sums(int) { return 1; }

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t, int64_t, S* t) const {
    const int classes = channels / 2;
    S p[voxel::kMaxChannels] = {}, q[voxel::kMaxChannels] = {};
    softmax(z, classes, p);
    SEMIVOX_UNROLL
    for (int c = 0; c < classes; ++c) q[c] = inverse ? -z[classes + c] : z[classes + c];
    softmax(static_cast<const S*>(q), classes, q);
    SEMIVOX_UNROLL
    for (int c = 0; c < classes; ++c) t[0] = t[0] + square(p[c] - q[c]);
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int channels, S* results) const {
    results[0] = sums.total(0) / S(static_cast<double>(sums.samples * voxels * (channels / 2)));
  }
};

struct IsBackground {
  const uint8_t* labels;
  uint8_t* out;
  SEMIVOX_HD void operator()(int64_t i) const { out[i] = labels[i] == 0; }
};

}  // namespace

LossValue background_loss(const Variable& logits, const BackgroundTarget& outer,
                          const BackgroundTarget& inner, const Tensor& mask,
                          const BackgroundLossOptions& options) {
  const Shape labels = logits.shape().with_channels(1);
  SEMIVOX_CHECK(outer.labels.shape() == labels && inner.labels.shape() == labels &&
                    mask.shape() == labels.with_samples(1),
                "labels ", outer.labels.shape().str(), " and ", inner.labels.shape().str(), ", mask ",
                mask.shape().str(), " for ", logits.shape().str());
  return evaluate("background_loss",
                  BackgroundLoss{{outer.labels.data<uint8_t>(), inner.labels.data<uint8_t>()},
                                 {outer.scaled, inner.scaled},
                                 mask.data<uint8_t>(),
                                 logits.shape().voxels(),
                                 options},
                  {logits}, {outer.labels, inner.labels, mask});
}

LossValue probability_distance(const Variable& a, const Variable& b, bool inverse) {
  SEMIVOX_CHECK(a.shape() == b.shape(), a.shape().str(), " and ", b.shape().str());
  return evaluate("probability_distance", ProbabilityDistance{a.shape().voxels(), inverse}, {a, b}, {});
}

Tensor background_of(const Tensor& labels) {
  Tensor out = Tensor::empty(labels.shape(), DType::u8, labels.device());
  kernels::map(labels.device(), "background_of", labels.elements(),
               IsBackground{labels.data<uint8_t>(), out.data<uint8_t>()});
  return out;
}

}  // namespace semivox
