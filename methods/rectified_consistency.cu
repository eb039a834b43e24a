#include "methods/rectified_consistency.hpp"

#include "methods/terms.hpp"

namespace semivox {

namespace {

struct RectifiedConsistency {
  terms::Frozen teacher;  // (N, V, C) logits
  int64_t voxels;

  static constexpr int kResults = 3;
  SEMIVOX_HD static constexpr int sums(int) { return 2; }  // weighted CE, KL

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    using T = terms::scalar_of<S>;
    S p[voxel::kMaxChannels];
    const S log_normalizer = softmax(z, channels, p);
    T q[voxel::kMaxChannels] = {}, z_teacher[voxel::kMaxChannels] = {};
    const T log_teacher =
        terms::frozen_softmax(teacher, (sample * voxels + v) * channels, channels, q, z_teacher);
    T highest = z_teacher[0];
    S z_hard = z[0], kl = S(0);  // z_hard: the student's logit of the class that the teacher decides for
    SEMIVOX_UNROLL
    for (int c = 0; c < channels; ++c) {
      if (z_teacher[c] > highest) {
        highest = z_teacher[c];
        z_hard = z[c];
      }
      kl = kl + q[c] * ((z_teacher[c] - log_teacher) - (z[c] - log_normalizer));
    }
    t[0] = (log_normalizer - z_hard) * exponential(-kl);
    t[1] = kl;
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int, S* results) const {
    const S count = S(static_cast<double>(sums.samples * voxels));
    results[1] = sums.total(0) / count;
    results[2] = sums.total(1) / count;
    results[0] = results[1] + results[2];
  }
};

}  // namespace

LossValue rectified_consistency(const Variable& logits, const Tensor& teacher) {
  SEMIVOX_CHECK(teacher.shape() == logits.shape(), "teacher's logits ", teacher.shape().str(), " for ",
                logits.shape().str());
  return evaluate("rectified_consistency",
                  RectifiedConsistency{terms::Frozen(teacher), logits.shape().voxels()}, {logits}, {teacher});
}

}  // namespace semivox
