#include "kernels/window.hpp"

#include "engine/launch.hpp"
#include "kernels/classes.hpp"
#include "kernels/dual.hpp"

namespace semivox::kernels {
namespace {

/// Work item `i` is lane i % lanes of window row i / lanes: one lane per row on the CPU, so that a row is one
/// loop over memory; on the GPU neighbouring lanes take neighbouring voxels.
struct AddSoftmaxWindow {
  const float* logits;   // (P0, P1, P2, K)
  const float* weights;  // (P0 + P1 + P2)
  float* scores;         // (D, H, W, K)
  int64_t classes, lanes;
  int64_t patch[3], shape[3], start[3];
  bool mirror[3];

  /// Position in the window as the network saw it.
  SEMIVOX_HD int64_t seen(int axis, int64_t p) const { return mirror[axis] ? patch[axis] - 1 - p : p; }

  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t row = i / lanes, p1 = row % patch[1], p0 = row / patch[1];
    const int64_t d = start[0] + p0, h = start[1] + p1;
    if (d < 0 || d >= shape[0] || h < 0 || h >= shape[1]) return;
    const float* row_logits = logits + (seen(0, p0) * patch[1] + seen(1, p1)) * patch[2] * classes;
    float* row_scores = scores + (d * shape[1] + h) * shape[2] * classes;
    const float row_weight = weights[p0] * weights[patch[0] + p1];
    const float* axis_weights = weights + patch[0] + patch[1];
    for (int64_t p2 = i % lanes; p2 < patch[2]; p2 += lanes) {
      const int64_t w = start[2] + p2;
      if (w < 0 || w >= shape[2]) continue;
      add_voxel(row_logits + seen(2, p2) * classes, row_weight * axis_weights[p2], row_scores + w * classes);
    }
  }

  /// score += weight * softmax(z).
  SEMIVOX_HD void add_voxel(const float* z, float weight, float* score) const {
    float p[kMaxClasses];
    semivox::softmax(z, static_cast<int>(classes), p);
    for (int64_t k = 0; k < classes; ++k) score[k] += weight * p[k];
  }
};

struct DivideByTotals {
  const float* totals;  // (D + H + W)
  float* scores;        // (D, H, W, K)
  int64_t classes, depth, height, width;
  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t w = i % width, h = i / width % height, d = i / (width * height);
    const float total = totals[d] * totals[depth + h] * totals[depth + height + w];
    for (int64_t k = 0; k < classes; ++k) scores[i * classes + k] /= total;
  }
};

struct Argmax {
  const float* scores;  // (rows, K)
  uint8_t* labels;      // (rows)
  int64_t classes;
  SEMIVOX_HD void operator()(int64_t i) const {
    const float* score = scores + i * classes;
    int64_t best = 0;
    for (int64_t k = 1; k < classes; ++k) {
      if (score[k] > score[best]) best = k;
    }
    labels[i] = static_cast<uint8_t>(best);
  }
};

}  // namespace

void add_softmax_window(const Tensor& logits, const WindowPlace& place, const Tensor& weights,
                        Tensor& scores) {
  const Shape &p = logits.shape(), &s = scores.shape();
  SEMIVOX_CHECK(p.n == 1 && s.n == 1 && p.c == s.c && weights.elements() == p.d + p.h + p.w, p.str(), " in ",
                s.str(), " with ", weights.elements(), " weights");
  SEMIVOX_CHECK(p.c <= kMaxClasses, p.c, " classes, at most ", kMaxClasses);
  const int64_t lanes = scores.device().is_cuda() ? 32 : 1;
  map(scores.device(), "window.add_softmax", p.d * p.h * lanes,
      AddSoftmaxWindow{logits.data<float>(),
                       weights.data<float>(),
                       scores.data<float>(),
                       p.c,
                       lanes,
                       {p.d, p.h, p.w},
                       {s.d, s.h, s.w},
                       {place.start[0], place.start[1], place.start[2]},
                       {place.mirror[0], place.mirror[1], place.mirror[2]}});
}

void divide_by_totals(const Tensor& totals, Tensor& scores) {
  const Shape& s = scores.shape();
  SEMIVOX_CHECK(s.n == 1 && totals.elements() == s.d + s.h + s.w, totals.elements(), " totals for ", s.str());
  map(scores.device(), "window.divide", s.voxels(),
      DivideByTotals{totals.data<float>(), scores.data<float>(), s.c, s.d, s.h, s.w});
}

Tensor argmax_classes(const Tensor& scores) {
  const Shape& s = scores.shape();
  SEMIVOX_CHECK(s.c <= 256, s.c, " classes, labels are 8-bit");
  Tensor labels = Tensor::empty(s.with_channels(1), DType::u8, scores.device());
  map(scores.device(), "argmax", s.rows(), Argmax{scores.data<float>(), labels.data<uint8_t>(), s.c});
  return labels;
}

}  // namespace semivox::kernels
