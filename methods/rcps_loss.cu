#include <cmath>

#include "methods/rcps.hpp"
#include "methods/terms.hpp"

namespace semivox {

namespace {

struct SegmentationLoss {
  const uint8_t* labels;  // (N, V)
  int64_t voxels;
  double lambda;
  double weights[voxel::kMaxChannels];  // of the classes

  static constexpr int kResults = 3;
  SEMIVOX_HD static constexpr int sums(int channels) { return 2 + 3 * channels; }

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    using T = terms::scalar_of<S>;
    S p[voxel::kMaxChannels];
    const S log_normalizer = softmax(z, channels, p);
    const int label = labels[sample * voxels + v];
    SEMIVOX_UNROLL
    for (int c = 0; c < channels; ++c) {
      if (c == label) {
        const T weight = static_cast<T>(weights[c]);
        t[0] = (log_normalizer - z[c]) * weight;
        t[1] = S(weight);
        t[2 + 3 * c] = p[c];
        t[4 + 3 * c] = S(1);
      }
      t[3 + 3 * c] = p[c];
    }
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int channels, S* results) const {
    S dice = S(0);
    for (int64_t n = 0; n < sums.samples; ++n) {
      for (int c = 0; c < channels; ++c) {
        const int k = 2 + 3 * c;
        const S both = sums(n, k + 1) + sums(n, k + 2);
        dice = dice + S(1) - (S(2) * sums(n, k) + S(terms::kDiceSmooth)) / (both + S(terms::kDiceSmooth));
      }
    }
    results[1] = sums.total(0) / sums.total(1);
    results[2] = dice / S(static_cast<double>(sums.samples * channels));
    results[0] = results[2] + S(lambda) * results[1];
  }
};

constexpr double kShortestLogits = 1e-8;  // length that a logit vector has at least in the cosine

SEMIVOX_HD inline float square_root(float x) { return sqrtf(x); }
SEMIVOX_HD inline double square_root(double x) { return sqrt(x); }
template <class T, int W>
SEMIVOX_HD inline Dual<T, W> square_root(const Dual<T, W>& x) {
  const T root = square_root(x.v);
  return chain(x, root, T(0.5) / root);
}

template <class S>
SEMIVOX_HD inline S dot(const S* a, const S* b, int count) {
  S sum = S(0);
  for (int c = 0; c < count; ++c) sum = sum + a[c] * b[c];
  return sum;
}

template <class S>
SEMIVOX_HD inline S length(const S* z, int count) {
  const S square = dot(z, z, count);
  if (value_of(square) < static_cast<terms::scalar_of<S>>(kShortestLogits * kShortestLogits))
    return S(kShortestLogits);
  return square_root(square);
}

struct ConsistencyLoss {
  terms::Frozen target;  // (N, V, C) logits
  int64_t labeled, voxels;
  double inverse_temperature;

  static constexpr int kResults = 4;
  SEMIVOX_HD static constexpr int sums(int) { return 3; }  // rectified CE, KL, cosine distance

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    using T = terms::scalar_of<S>;
    const int classes = channels / 2;
    T z_target[voxel::kMaxChannels] = {}, p_target[voxel::kMaxChannels] = {}, sharp[voxel::kMaxChannels] = {};
    const T log_target =
        terms::frozen_softmax(target, (sample * voxels + v) * classes, classes, p_target, z_target);
    T scaled[voxel::kMaxChannels] = {};
    SEMIVOX_UNROLL
    for (int c = 0; c < classes; ++c) scaled[c] = z_target[c] * static_cast<T>(inverse_temperature);
    softmax(scaled, classes, sharp);
    SEMIVOX_UNROLL
    for (int view = 0; view < 2; ++view) {
      const S* q = z + view * classes;
      S p[voxel::kMaxChannels];
      const S log_normalizer = softmax(q, classes, p);
      S cross_entropy = S(0), kl = S(0);
      SEMIVOX_UNROLL
      for (int c = 0; c < classes; ++c) {
        const S log_p = q[c] - log_normalizer;
        cross_entropy = cross_entropy - sharp[c] * log_p;
        kl = kl + p_target[c] * ((z_target[c] - log_target) - log_p);
      }
      t[0] = t[0] + exponential(-kl) * cross_entropy;
      t[1] = t[1] + kl;
    }
    t[2] = S(1) - dot(z, z + classes, classes) / (length(z, classes) * length(z + classes, classes));
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int, S* results) const {
    for (int k = 0; k < 3; ++k) {
      results[1 + k] = mean(sums, k, 0, labeled) + mean(sums, k, labeled, sums.samples);
    }
    results[0] = results[1] + results[2] + results[3];
  }

  /// Mean of term k over the voxels of samples first ... last-1; 0 without samples.
  template <class S>
  SEMIVOX_HD S mean(const SampleSums<S>& sums, int k, int64_t first, int64_t last) const {
    if (first == last) return S(0);
    return sums.total(k, first, last) / S(static_cast<double>((last - first) * voxels));
  }
};

}  // namespace

LossValue rcps_segmentation_loss(const Variable& logits, const Tensor& labels,
                                 const std::vector<double>& class_weights) {
  const Shape shape = logits.shape();
  SEMIVOX_CHECK(labels.shape() == shape.with_channels(1), labels.shape().str(), " labels for ", shape.str());
  SEMIVOX_CHECK(static_cast<int64_t>(class_weights.size()) == shape.c && shape.c <= voxel::kMaxChannels,
                class_weights.size(), " weights for ", shape.str());
  SegmentationLoss program{labels.data<uint8_t>(), shape.voxels(), 0, {}};
  double total = 0;
  for (size_t c = 0; c < class_weights.size(); ++c) total += program.weights[c] = class_weights[c];
  program.lambda = static_cast<double>(shape.c) / total;
  return evaluate("rcps_segmentation_loss", program, {logits}, {labels});
}

LossValue rcps_consistency_loss(const Variable& first, const Variable& second, const Tensor& target,
                                int64_t labeled, double temperature) {
  SEMIVOX_CHECK(target.shape() == first.shape() && second.shape() == first.shape(), "target ",
                target.shape().str(), " for ", first.shape().str());
  return evaluate("rcps_consistency_loss",
                  ConsistencyLoss{terms::Frozen(target), labeled, first.shape().voxels(), 1 / temperature},
                  {first, second}, {target});
}

}  // namespace semivox
