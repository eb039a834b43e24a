#include "kernels/window.hpp"

#include <cmath>

#include "kernels/launch.hpp"

namespace semivox::kernels {
namespace {

struct AddSoftmaxWindow {
  const float* logits;   // (P0, P1, P2, K)
  const float* weights;  // (P0 + P1 + P2)
  float* scores;         // (D, H, W, K)
  int64_t classes;
  int64_t patch[3], shape[3], start[3];
  bool mirror[3];

  /// Position in the window as the network saw it.
  SEMIVOX_HD int64_t seen(int axis, int64_t p) const { return mirror[axis] ? patch[axis] - 1 - p : p; }

  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t p2 = i % patch[2], p1 = i / patch[2] % patch[1], p0 = i / (patch[1] * patch[2]);
    const int64_t d = start[0] + p0, h = start[1] + p1, w = start[2] + p2;
    if (d < 0 || d >= shape[0] || h < 0 || h >= shape[1] || w < 0 || w >= shape[2]) return;
    const float* z = logits + ((seen(0, p0) * patch[1] + seen(1, p1)) * patch[2] + seen(2, p2)) * classes;
    float* score = scores + ((d * shape[1] + h) * shape[2] + w) * classes;
    float largest = z[0];
    for (int64_t k = 1; k < classes; ++k) largest = fmaxf(largest, z[k]);
    float sum = 0;
    for (int64_t k = 0; k < classes; ++k) sum += expf(z[k] - largest);
    const float factor = weights[p0] * weights[patch[0] + p1] * weights[patch[0] + patch[1] + p2];
    for (int64_t k = 0; k < classes; ++k) score[k] += factor * (expf(z[k] - largest) / sum);
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
  map(scores.device(), "window.add_softmax", p.voxels(),
      AddSoftmaxWindow{logits.data<float>(),
                       weights.data<float>(),
                       scores.data<float>(),
                       p.c,
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
