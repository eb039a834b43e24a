#include "methods/bcp.hpp"

namespace semivox {

namespace {

// Sums of region r (0 outer, 1 inner): CE, voxels | per class: sum p*y, sum p (or p^2), sum y.
//
// kRare says that one of the options that few runs set may be: their branches keep the CPU from computing
// voxels side by side.
template <bool kRare>
struct BcpLoss {
  const uint8_t* labels[2];  // outer, inner: (N, V)
  const uint8_t* mask;       // (V), 1 outside the box
  int64_t voxels;
  BcpLossOptions options;

  static constexpr int kResults = 7;
  static constexpr int kElsewhere = -1;
  SEMIVOX_HD static constexpr int region(int channels) { return 2 + 3 * channels; }
  SEMIVOX_HD static constexpr int sums(int channels) { return 2 * region(channels); }

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    S p[voxel::kMaxChannels];
    const S log_normalizer = softmax(z, channels, p);
    if constexpr (kRare) {  // in place; CE has its logarithm already
      if (options.dice_softmax_twice) softmax(p, channels, p);
    }
    const int64_t at = sample * voxels + v;
    // Both labels are read wherever the voxel lies: loads without a condition make vectors.
    const int outside = mask[v], outer = labels[0][at], inner = labels[1][at];
    region_terms(z, p, log_normalizer, channels, outside != 0 ? outer : kElsewhere, t);
    region_terms(z, p, log_normalizer, channels, outside != 0 ? kElsewhere : inner, t + region(channels));
    if constexpr (kRare) {
      if (options.unmasked_background) {
        background_terms(p[0], outer, t);
        background_terms(p[0], inner, t + region(channels));
      }
    }
  }

  // The sums of one region at a voxel that has `label` in it or lies elsewhere.
  template <class S>
  SEMIVOX_HD void region_terms(const S* z, const S* p, const S& log_normalizer, int channels, int label,
                               S* sums) const {
    if (label != kElsewhere) sums[1] = S(1);
    SEMIVOX_UNROLL
    for (int c = 0; c < channels; ++c) {
      S* d = sums + 2 + 3 * c;
      if (c == label) {
        sums[0] = log_normalizer - z[c];
        d[0] = p[c];
        d[2] = S(1);
      }
      if (label != kElsewhere) d[1] = options.pooled_squares ? p[c] * p[c] : p[c];
    }
  }

  // The background's sums of a region, wherever the voxel lies.
  template <class S>
  SEMIVOX_HD void background_terms(const S& p, int label, S* sums) const {
    if (label == 0) {
      sums[2] = p;
      sums[4] = S(1);
    }
    sums[3] = options.pooled_squares ? p * p : p;
  }

  template <class S>
  SEMIVOX_HD S dice(const SampleSums<S>& sums, int r, int channels) const {
    const S smooth = S(options.pooled_squares ? 1e-10 : 1e-5);
    S total = S(0);
    for (int c = 0; c < channels; ++c) {
      const int k = r * region(channels) + 2 + 3 * c;
      if (options.pooled_squares) {
        total = total + (S(2) * sums.total(k) + smooth) / (sums.total(k + 1) + sums.total(k + 2) + smooth);
      } else {
        for (int64_t n = 0; n < sums.samples; ++n) {
          total = total + (S(2) * sums(n, k) + smooth) / (sums(n, k + 1) + sums(n, k + 2) + smooth) /
                              S(static_cast<double>(sums.samples));
        }
      }
    }
    return S(1) - total / S(static_cast<double>(channels));
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int channels, S* results) const {
    for (int r = 0; r < 2; ++r) {
      const int k = r * region(channels);
      results[3 + r] = sums.total(k) / (sums.total(k + 1) + S(1e-16));
      results[5 + r] = dice(sums, r, channels);
    }
    const S outer = S(options.outer_weight), inner = S(options.inner_weight);
    results[1] = outer * results[3] + inner * results[4];
    results[2] = outer * results[5] + inner * results[6];
    results[0] = S(0.5) * (results[1] + results[2]);
  }
};

}  // namespace

LossValue bcp_loss(const Variable& logits, const Tensor& outer, const Tensor& inner, const Tensor& mask,
                   const BcpLossOptions& options) {
  const Shape labels = logits.shape().with_channels(1);
  SEMIVOX_CHECK(outer.shape() == labels && inner.shape() == labels && mask.shape() == labels.with_samples(1),
                "labels ", outer.shape().str(), " and ", inner.shape().str(), ", mask ", mask.shape().str(),
                " for ", logits.shape().str());
  const auto evaluated = [&](auto rare) {
    return evaluate("bcp_loss",
                    BcpLoss<rare.value>{{outer.data<uint8_t>(), inner.data<uint8_t>()},
                                        mask.data<uint8_t>(),
                                        logits.shape().voxels(),
                                        options},
                    {logits}, {outer, inner, mask});
  };
  if (options.dice_softmax_twice || options.unmasked_background) return evaluated(std::true_type{});
  return evaluated(std::false_type{});
}

}  // namespace semivox
