#include "methods/terms.hpp"
#include "methods/upc.hpp"

namespace semivox {

namespace {

struct ConfidentPseudoLabels {
  terms::Frozen teacher;  // (N, V, C) logits
  int64_t voxels;
  double threshold, temperature;

  static constexpr int kResults = 2;
  SEMIVOX_HD static constexpr int sums(int) { return 2; }  // CE, confident voxels

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    using T = terms::scalar_of<S>;
    T q[voxel::kMaxChannels] = {}, z_teacher[voxel::kMaxChannels] = {};
    teacher.load((sample * voxels + v) * channels, channels, z_teacher);
    int hard = 0;
    T highest = z_teacher[0] / static_cast<T>(temperature);
    SEMIVOX_UNROLL
    for (int c = 0; c < channels; ++c) {
      z_teacher[c] /= static_cast<T>(temperature);
      if (z_teacher[c] > highest) {
        highest = z_teacher[c];
        hard = c;
      }
    }
    softmax(static_cast<const T*>(z_teacher), channels, q);
    T confidence = T(0);
    SEMIVOX_UNROLL
    for (int c = 0; c < channels; ++c) confidence = c == hard ? q[c] : confidence;
    if (!(confidence >= static_cast<T>(threshold))) return;
    S p[voxel::kMaxChannels];
    const S log_normalizer = softmax(z, channels, p);
    SEMIVOX_UNROLL
    for (int c = 0; c < channels; ++c) {
      if (c == hard) t[0] = log_normalizer - z[c];
    }
    t[1] = S(1);
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int, S* results) const {
    results[0] = sums.total(0) / S(static_cast<double>(sums.samples * voxels));
    results[1] = sums.total(1);
  }
};

struct LogitDistance {
  terms::Frozen teacher;  // (N, V, C) logits
  int64_t voxels;

  static constexpr int kResults = 1;
  SEMIVOX_HD static constexpr int sums(int) { return 1; }

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    terms::scalar_of<S> z_teacher[voxel::kMaxChannels] = {};
    teacher.load((sample * voxels + v) * channels, channels, z_teacher);
    t[0] = terms::squared_distance(z, z_teacher, channels);
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int channels, S* results) const {
    results[0] = sums.total(0) / S(static_cast<double>(sums.samples * voxels * channels));
  }
};

void check_teacher(const Variable& logits, const Tensor& teacher) {
  SEMIVOX_CHECK(teacher.shape() == logits.shape(), "teacher's logits ", teacher.shape().str(), " for ",
                logits.shape().str());
}

}  // namespace

LossValue confident_pseudo_labels(const Variable& logits, const Tensor& teacher, double threshold,
                                  double temperature) {
  check_teacher(logits, teacher);
  return evaluate(
      "confident_pseudo_labels",
      ConfidentPseudoLabels{terms::Frozen(teacher), logits.shape().voxels(), threshold, temperature},
      {logits}, {teacher});
}

LossValue logit_distance(const Variable& logits, const Tensor& teacher) {
  check_teacher(logits, teacher);
  return evaluate("logit_distance", LogitDistance{terms::Frozen(teacher), logits.shape().voxels()}, {logits},
                  {teacher});
}

}  // namespace semivox
