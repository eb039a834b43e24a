#include "kernels/conv_pairs.hpp"

#if defined(__x86_64__)

#include <algorithm>
#include <array>
#include <cstring>

#include "engine/parallel.hpp"
#include "kernels/avx512.hpp"

namespace semivox::kernels::pairs {

namespace {

using avx512::broadcast_pair;
using avx512::load_pairs;

constexpr int64_t kChannels = 16;  // of input and output
constexpr int64_t kPairs = kChannels / 2;
constexpr int64_t kRowWeights = kPairs * 3 * kChannels * 2;  // of one kernel row: (pairs, kW, outputs, 2)
constexpr int kVoxels = 16;                                  // along W, a vector of sums for each
constexpr int64_t kGrain = 16;                               // rows of the output that one task takes

using Packed = std::array<bf16, 9 * kRowWeights>;  // (kD * 3, pairs, 3, outputs, 2)

/// The kernel rows that meet an output row inside the volume: their first voxels and their weights.
struct Rows {
  std::array<const bf16*, 9> x;  // each (W, 16)
  std::array<const bf16*, 9> weights;
  int count = 0;
};

/// Weights (Co, Ci, taps) for the forward pass, or turned for the gradient of the input: channels exchanged,
/// taps in reverse order.
Packed pack(const ConvGeometry& g, const ConvWeights& weights, bool turned) {
  const int64_t taps = tap_count(g);
  const float* from = weights.values.data<float>();
  Packed packed{};
  for (int64_t t = 0; t < taps; ++t) {
    for (int64_t in = 0; in < kChannels; ++in) {
      for (int64_t out = 0; out < kChannels; ++out) {
        const int64_t source = turned ? (in * kChannels + out) * taps + taps - 1 - t  //
                                      : (out * kChannels + in) * taps + t;
        packed[static_cast<size_t>(t / 3 * kRowWeights + ((in / 2 * 3 + t % 3) * kChannels + out) * 2 +
                                   in % 2)] = bf16(from[source]);
      }
    }
  }
  return packed;
}

/// Voxels w0 ... w0 + kVoxels - 1 of an output row of W voxels.
SEMIVOX_AVX512_BF16 void convolve(const Rows& rows, int64_t w0, int64_t width, const float* bias, float slope,
                                  bf16* y /* (W, 16) */) {
  const bool at_start = w0 == 0, at_end = w0 + kVoxels == width;
  const __m512 zero = _mm512_setzero_ps();
  __m512 sums[kVoxels];
  for (int i = 0; i < kVoxels; ++i) sums[i] = bias != nullptr ? _mm512_loadu_ps(bias) : zero;
  for (int r = 0; r < rows.count; ++r) {
    const bf16 *x = rows.x[static_cast<size_t>(r)] + w0 * kChannels,
               *weights = rows.weights[static_cast<size_t>(r)];
    for (int64_t p = 0; p < kPairs; ++p) {
      const bf16 *pair = x + 2 * p, *taps = weights + p * 3 * kChannels * 2;
      const __m512bh left = load_pairs(taps), middle = load_pairs(taps + 2 * kChannels),
                     right = load_pairs(taps + 4 * kChannels);
      // What is to the left of a voxel meets the first tap: an input voxel adds to the sum on its right
      // first.
      if (!at_start) sums[0] = _mm512_dpbf16_ps(sums[0], broadcast_pair(pair - kChannels), left);
#pragma GCC unroll 16
      for (int i = 0; i < kVoxels; ++i) {
        const __m512bh value = broadcast_pair(pair + i * kChannels);
        if (i + 1 < kVoxels) sums[i + 1] = _mm512_dpbf16_ps(sums[i + 1], value, left);
        sums[i] = _mm512_dpbf16_ps(sums[i], value, middle);
        if (i > 0) sums[i - 1] = _mm512_dpbf16_ps(sums[i - 1], value, right);
      }
      if (!at_end) {
        sums[kVoxels - 1] =
            _mm512_dpbf16_ps(sums[kVoxels - 1], broadcast_pair(pair + kVoxels * kChannels), right);
      }
    }
  }
  for (int i = 0; i < kVoxels; ++i) {
    const __mmask16 below = _mm512_cmp_ps_mask(sums[i], zero, _CMP_LT_OQ);
    const __m512 z = _mm512_mask_mul_ps(sums[i], below, sums[i], _mm512_set1_ps(slope));
    const __m256bh rounded = _mm512_cvtneps_pbh(z);
    std::memcpy(static_cast<void*>(y + (w0 + i) * kChannels), &rounded, sizeof rounded);
  }
}

/// y = act(conv(x) + bias) with packed weights; both (N, D, H, W, 16) of one shape.
void run(const ConvGeometry& g, const Tensor& x, const Packed& packed, const float* bias, float slope,
         Tensor& y) {
  const Shape s = x.shape();
  const bf16* from = x.data<bf16>();
  bf16* to = y.data<bf16>();
  parallel_blocks(s.n * s.d * s.h, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t h = row % s.h, d = row / s.h % s.d;
      Rows rows;
      for (int64_t k = 0; k < g.kernel[0] * 3; ++k) {
        const int64_t plane = d + k / 3 - g.padding[0], line = h + k % 3 - 1;
        if (plane < 0 || plane >= s.d || line < 0 || line >= s.h) continue;
        const auto i = static_cast<size_t>(rows.count++);
        rows.x[i] = from + (row + (plane - d) * s.h + line - h) * s.w * kChannels;
        rows.weights[i] = packed.data() + k * kRowWeights;
      }
      // The last tile may overlap the one before: the same voxels, the same values.
      for (int64_t w = 0; w < s.w; w += kVoxels)
        convolve(rows, std::min(w, s.w - kVoxels), s.w, bias, slope, to + row * s.w * kChannels);
    }
  });
}

}  // namespace

bool takes(const ConvGeometry& g, const Tensor& x, const Tensor& y) {
  return avx512::has_dot_products() && keeps_size(g) && g.in_channels == kChannels &&
         g.out_channels == kChannels && x.shape().w >= kVoxels && x.dtype() == DType::bf16 &&
         y.dtype() == DType::bf16;
}

void forward(const ConvGeometry& g, const Tensor& x, const ConvWeights& weights, const Tensor& bias,
             float slope, Tensor& y) {
  run(g, x, pack(g, weights, false), bias.defined() ? bias.data<float>() : nullptr, slope, y);
}

void backward_data(const ConvGeometry& g, const Tensor& dy, const ConvWeights& weights, Tensor& dx) {
  run(g, dy, pack(g, weights, true), nullptr, 1.0f, dx);
}

}  // namespace semivox::kernels::pairs

#else

namespace semivox::kernels::pairs {

bool takes(const ConvGeometry&, const Tensor&, const Tensor&) { return false; }

void forward(const ConvGeometry&, const Tensor&, const ConvWeights&, const Tensor&, float, Tensor&) {
  throw InternalError("this processor has no 512-bit vectors");
}
void backward_data(const ConvGeometry&, const Tensor&, const ConvWeights&, Tensor&) {
  throw InternalError("this processor has no 512-bit vectors");
}

}  // namespace semivox::kernels::pairs

#endif
