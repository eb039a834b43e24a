#include "kernels/uncertainty.hpp"

#include "engine/launch.hpp"
#include "kernels/classes.hpp"
#include "kernels/dual.hpp"

namespace semivox::kernels {

namespace {

template <class T>
struct Softmax {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* logits;  // (rows, C)
  T* out;           // (rows, C)
  int classes;
  SEMIVOX_HD void operator()(int64_t row) const {
    semivox::softmax(logits + row * classes, classes, out + row * classes);
  }
};

template <class T>
struct AccumulateSoftmax {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* logits;  // (blocks, rows, C)
  T* mean;          // (rows, C)
  int64_t rows, blocks;
  int classes;
  T weight;
  SEMIVOX_HD void operator()(int64_t row) const {
    T p[kMaxClasses];
    for (int64_t b = 0; b < blocks; ++b) {
      semivox::softmax(logits + (b * rows + row) * classes, classes, p);
      for (int c = 0; c < classes; ++c) mean[row * classes + c] += weight * p[c];
    }
  }
};

template <class T>
struct HardLabels {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* logits;  // (rows, C)
  uint8_t* labels;  // (rows)
  int classes;
  bool ties_to_foreground;
  SEMIVOX_HD void operator()(int64_t row) const {
    const T* z = logits + row * classes;
    if (classes == 2 && ties_to_foreground) {
      T p[2];
      semivox::softmax(z, 2, p);
      labels[row] = p[1] >= T(0.5);
      return;
    }
    int best = 0;
    for (int c = 1; c < classes; ++c) best = z[c] > z[best] ? c : best;
    labels[row] = static_cast<uint8_t>(best);
  }
};

template <class T>
struct Entropy {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* p;  // (rows, C)
  T* out;      // (rows)
  int classes;
  SEMIVOX_HD void operator()(int64_t row) const {
    T u = 0;
    for (int c = 0; c < classes; ++c) u -= p[row * classes + c] * logarithm(p[row * classes + c] + T(1e-6));
    out[row] = u;
  }
};

template <class T>
struct KlDivergence {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* a;  // (rows, C)
  const T* b;  // (rows, C)
  T* out;      // (rows)
  int classes;
  SEMIVOX_HD void operator()(int64_t row) const {
    T pa[kMaxClasses], pb[kMaxClasses];
    const T la = semivox::softmax(a + row * classes, classes, pa),
            lb = semivox::softmax(b + row * classes, classes, pb);
    T kl = 0;
    for (int c = 0; c < classes; ++c)
      kl += pa[c] * ((a[row * classes + c] - la) - (b[row * classes + c] - lb));
    out[row] = kl;
  }
};

// Four elements per index: one Philox block makes four normal numbers.
template <class T>
struct NoisyCopies {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* x;  // (elements)
  T* out;      // (copies, elements)
  int64_t elements, total;
  float sigma, clip;
  RandomStream random;
  SEMIVOX_HD void operator()(int64_t k) const {
    float noise[4] = {0, 0, 0, 0};
    if (sigma > 0) random.normals(static_cast<uint64_t>(k), noise);
    for (int64_t i = 4 * k; i < 4 * k + 4 && i < total; ++i) {
      float e = sigma * noise[i - 4 * k];
      e = e > clip ? clip : (e < -clip ? -clip : e);
      out[i] = x[i % elements] + static_cast<T>(e);
    }
  }
};

template <class F>
void with_value_type(const Tensor& logits, const F& f) {
  SEMIVOX_CHECK(logits.dtype() == DType::f32 || logits.dtype() == DType::f64, "dtype ",
                name_of(logits.dtype()));
  SEMIVOX_CHECK(logits.shape().c <= kMaxClasses, logits.shape().c, " classes, at most ", kMaxClasses);
  if (logits.dtype() == DType::f64) return f(double{});
  return f(float{});
}

}  // namespace

Tensor softmax(const Tensor& logits) {
  const Shape shape = logits.shape();
  Tensor out = Tensor::empty(shape, logits.dtype(), logits.device());
  with_value_type(logits, [&](auto zero) {
    using T = decltype(zero);
    map(logits.device(), "softmax", shape.rows(),
        Softmax<T>{logits.data<T>(), out.data<T>(), static_cast<int>(shape.c)});
  });
  return out;
}

void accumulate_softmax(const Tensor& logits, int64_t blocks, double weight, Tensor& mean) {
  SEMIVOX_CHECK(logits.shape() == mean.shape().with_samples(blocks * mean.shape().n), logits.shape().str(),
                " into ", mean.shape().str());
  with_value_type(logits, [&](auto zero) {
    using T = decltype(zero);
    map(logits.device(), "accumulate_softmax", mean.shape().rows(),
        AccumulateSoftmax<T>{logits.data<T>(), mean.data<T>(), mean.shape().rows(), blocks,
                             static_cast<int>(mean.shape().c), static_cast<T>(weight)});
  });
}

Tensor hard_labels(const Tensor& logits, bool ties_to_foreground) {
  const Shape shape = logits.shape();
  Tensor labels = Tensor::empty(shape.with_channels(1), DType::u8, logits.device());
  with_value_type(logits, [&](auto zero) {
    using T = decltype(zero);
    map(logits.device(), "hard_labels", shape.rows(),
        HardLabels<T>{logits.data<T>(), labels.data<uint8_t>(), static_cast<int>(shape.c),
                      ties_to_foreground});
  });
  return labels;
}

Tensor entropy(const Tensor& probabilities) {
  const Shape shape = probabilities.shape();
  Tensor out = Tensor::empty(shape.with_channels(1), probabilities.dtype(), probabilities.device());
  with_value_type(probabilities, [&](auto zero) {
    using T = decltype(zero);
    map(probabilities.device(), "entropy", shape.rows(),
        Entropy<T>{probabilities.data<T>(), out.data<T>(), static_cast<int>(shape.c)});
  });
  return out;
}

Tensor kl_divergence(const Tensor& logits_a, const Tensor& logits_b) {
  const Shape shape = logits_a.shape();
  SEMIVOX_CHECK(logits_b.shape() == shape, shape.str(), " and ", logits_b.shape().str());
  Tensor out = Tensor::empty(shape.with_channels(1), logits_a.dtype(), logits_a.device());
  with_value_type(logits_a, [&](auto zero) {
    using T = decltype(zero);
    map(logits_a.device(), "kl_divergence", shape.rows(),
        KlDivergence<T>{logits_a.data<T>(), logits_b.data<T>(), out.data<T>(), static_cast<int>(shape.c)});
  });
  return out;
}

Tensor noisy_copies(const Tensor& x, int64_t copies, double sigma, double clip, const RandomStream& random) {
  Tensor out = Tensor::empty(x.shape().with_samples(copies * x.shape().n), x.dtype(), x.device());
  with_value_type(x, [&](auto zero) {
    using T = decltype(zero);
    map(x.device(), "noisy_copies", (out.elements() + 3) / 4,
        NoisyCopies<T>{x.data<T>(), out.data<T>(), x.elements(), out.elements(), static_cast<float>(sigma),
                       static_cast<float>(clip), random});
  });
  return out;
}

}  // namespace semivox::kernels
