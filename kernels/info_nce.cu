#include "kernels/info_nce.hpp"

#include "kernels/channels.hpp"
#include "kernels/dual.hpp"

namespace semivox::kernels {

namespace {

constexpr double kEpsilon = 1e-8;      // in the logarithm's sum
constexpr double kShortest = 1e-12;    // length below which a vector is not stretched to 1
constexpr int64_t kAnchorBlock = 512;  // anchors of one partial sum of the negatives' gradient
constexpr int kTile = static_cast<int>(NegativeLists::kKeyTile);

template <class T>
struct Normalize {
  using U = compute_t<T>;
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* x;  // (rows, F)
  U* unit;     // (rows, F)
  U* inverse;  // (rows)
  int64_t features;
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t) const {
    const T* from = x + row * features;
    U square = U(0);
    for (int64_t f = 0; f < features; ++f) square += static_cast<U>(from[f]) * static_cast<U>(from[f]);
    const U length = sqrt(square);
    const U factor = U(1) / (length > U(kShortest) ? length : U(kShortest));
    inverse[row] = factor;
    for (int64_t f = 0; f < features; ++f) unit[row * features + f] = static_cast<U>(from[f]) * factor;
  }
};

/// dx = (g - y (y.g)) / |x| for y = x / |x|; g / 1e-12 where the vector is shorter.
template <class T>
struct NormalizeBackward {
  using U = compute_t<T>;
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const U* unit;      // (rows, F)
  const U* inverse;   // (rows)
  const U* gradient;  // (rows, F)
  T* dx;              // (rows, F)
  int64_t features;
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t) const {
    const U* y = unit + row * features;
    const U* g = gradient + row * features;
    const U factor = inverse[row];
    U along = U(0);
    if (factor < U(1 / kShortest)) {
      for (int64_t f = 0; f < features; ++f) along += y[f] * g[f];
    }
    for (int64_t f = 0; f < features; ++f) {
      dx[row * features + f] = static_cast<T>((g[f] - y[f] * along) * factor);
    }
  }
};

/// keys[c][f][k] = feature f of the k-th negative of class c: a tile of negatives lies side by side.
template <class T>
struct GatherKeys {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* negatives;     // (M, F)
  const int32_t* chosen;  // (C, places)
  T* keys;                // (C, F, places)
  int64_t features, places;
  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t k = i % places, f = i / places % features, c = i / places / features;
    const int32_t voxel = chosen[c * places + k];
    keys[i] = voxel > 0 ? negatives[(voxel - 1) * features + f] : T(0);
  }
};

/// The similarities of an anchor, computed where they are needed. The pragmas keep the compiler from
/// unrolling a tile into scalars before it makes vectors of it.
template <class T>
struct Similarities {
  const T* a;              // (N, F)
  const T* b;              // (N, F)
  const uint8_t* classes;  // (N)
  const T* keys;           // (C, F, places)
  const int32_t* chosen;   // (C, places)
  int64_t anchors, features, places;
  T inverse_temperature;

  /// The anchor's vector in the view that `direction` 0 or 1 starts from.
  SEMIVOX_HD const T* query(int64_t direction, int64_t anchor) const {
    return (direction == 0 ? a : b) + anchor * features;
  }

  /// a.b / t
  SEMIVOX_HD T positive(int64_t anchor) const {
    T sum = T(0);
    for (int64_t f = 0; f < features; ++f) sum += a[anchor * features + f] * b[anchor * features + f];
    return sum * inverse_temperature;
  }

  /// s[j] = q.k / t for the negatives first ... first+kWidth-1 of a list, -infinity where it has none.
  template <int kWidth>
  SEMIVOX_HD void tile(const T* q, int64_t list, int64_t first, T (&s)[kWidth]) const {
    for (int j = 0; j < kWidth; ++j) s[j] = T(0);
    const T* k = keys + list * features * places + first;
    for (int64_t f = 0; f < features; ++f) {
      const T value = q[f];
#pragma omp simd
      for (int j = 0; j < kWidth; ++j) s[j] += value * k[f * places + j];
    }
    for (int j = 0; j < kWidth; ++j) {
      s[j] = chosen[list * places + first + j] > 0 ? s[j] * inverse_temperature : -static_cast<T>(INFINITY);
    }
  }
};

/// log(exp(positive) + sum exp(negatives) + epsilon) of every anchor in both directions, in one run over the
/// negatives: `sum` counts in units of exp(peak), and the unit grows with the highest similarity seen.
template <class T>
struct LogSums {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  Similarities<T> s;
  T log_epsilon;
  T* log_sums;  // (2, N)
  T* losses;    // (2, N)
  SEMIVOX_HD void operator()(int64_t direction, int64_t i, int64_t) const {
    const int64_t anchor = i - direction * s.anchors, list = s.classes[anchor];
    const T* q = s.query(direction, anchor);
    const T positive = s.positive(anchor);
    T peak = positive > log_epsilon ? positive : log_epsilon;
    T sum = exponential(positive - peak) + exponential(log_epsilon - peak);
    for (int64_t first = 0; first < s.places; first += kTile) {
      T x[kTile];
      s.tile(q, list, first, x);
      T highest = peak;
      for (int j = 0; j < kTile; ++j) highest = x[j] > highest ? x[j] : highest;
      sum *= exponential(peak - highest);
      for (int j = 0; j < kTile; ++j) sum += exponential(x[j] - highest);
      peak = highest;
    }
    log_sums[i] = logarithm(sum) + peak;
    losses[i] = log_sums[i] - positive;
  }
};

template <class T>
struct AddLosses {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* losses;  // (2, N)
  SEMIVOX_HD void operator()(int64_t, int64_t i, double* sums) const { sums[0] += losses[i]; }
};

struct DivideLoss {
  double* value;  // (1)
  double by;
  SEMIVOX_HD void operator()(int64_t) const { value[0] /= by; }
};

/// Gradients of both views' vectors of one anchor.
template <class T>
struct AnchorGradient {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  Similarities<T> s;
  const T* log_sums;       // (2, N)
  const double* upstream;  // (1)
  T* da;                   // (N, F), zeros
  T* db;                   // (N, F), zeros
  SEMIVOX_HD void operator()(int64_t, int64_t anchor, int64_t) const {
    const int64_t list = s.classes[anchor];
    const T scale = static_cast<T>(upstream[0] / static_cast<double>(s.anchors)) * s.inverse_temperature;
    const T positive = s.positive(anchor);
    for (int direction = 0; direction < 2; ++direction) {
      const T log_sum = log_sums[direction * s.anchors + anchor];
      const T* q = s.query(direction, anchor);
      const T* other = s.query(1 - direction, anchor);
      T* dq = (direction == 0 ? da : db) + anchor * s.features;
      T* d_other = (direction == 0 ? db : da) + anchor * s.features;
      const T pull = (exponential(positive - log_sum) - T(1)) * scale;
      for (int64_t f = 0; f < s.features; ++f) {
        dq[f] += pull * other[f];
        d_other[f] += pull * q[f];
      }
      for (int64_t first = 0; first < s.places; first += kTile) {
        T push[kTile];
        s.tile(q, list, first, push);
        for (int j = 0; j < kTile; ++j) push[j] = exponential(push[j] - log_sum) * scale;
        const T* k = s.keys + list * s.features * s.places + first;
        for (int64_t f = 0; f < s.features; ++f) {
          T total = T(0);
#pragma omp simd reduction(+ : total)
          for (int j = 0; j < kTile; ++j) total += push[j] * k[f * s.places + j];
          dq[f] += total;
        }
      }
    }
  }
};

/// Gradient of kWidth negatives of a list from the anchors of one block. On the CPU a tile of negatives is a
/// vector; on the GPU neighbouring threads have neighbouring negatives.
template <class T, int kWidth>
struct KeyGradient {
  static constexpr bool kHostOnly = std::is_same_v<T, double> || kWidth > 1;
  Similarities<T> s;
  const T* log_sums;       // (2, N)
  const double* upstream;  // (1)
  T* partials;             // (blocks, C, F, places)
  int64_t lists;
  SEMIVOX_HD void operator()(int64_t block, int64_t i, int64_t) const {
    const int64_t tiles = s.places / kWidth;
    const int64_t first = i % tiles * kWidth, list = i / tiles % lists;
    const T scale = static_cast<T>(upstream[0] / static_cast<double>(s.anchors)) * s.inverse_temperature;
    T* out = partials + (block * lists + list) * s.features * s.places + first;  // (F, places)
    for (int64_t f = 0; f < s.features; ++f) {
      for (int j = 0; j < kWidth; ++j) out[f * s.places + j] = T(0);
    }
    const int64_t begin = block * kAnchorBlock;
    const int64_t end = begin + kAnchorBlock < s.anchors ? begin + kAnchorBlock : s.anchors;
    for (int64_t anchor = begin; anchor < end; ++anchor) {
      if (s.classes[anchor] != list) continue;
      for (int direction = 0; direction < 2; ++direction) {
        const T log_sum = log_sums[direction * s.anchors + anchor];
        const T* q = s.query(direction, anchor);
        T push[kWidth];
        s.tile(q, list, first, push);
        for (int j = 0; j < kWidth; ++j) push[j] = exponential(push[j] - log_sum) * scale;
        for (int64_t f = 0; f < s.features; ++f) {
          const T value = q[f];
#pragma omp simd
          for (int j = 0; j < kWidth; ++j) out[f * s.places + j] += push[j] * value;
        }
      }
    }
  }
};

/// The gradient of a voxel is the sum over the lists that it stands in, each the sum over blocks of anchors.
template <class T>
struct CollectKeyGradients {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* partials;     // (blocks, C, F, places)
  const int32_t* place;  // (C, M)
  T* gradient;           // (M, F)
  int64_t blocks, lists, features, places, rows;
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t f) const {
    T total = T(0);
    for (int64_t c = 0; c < lists; ++c) {
      const int32_t k = place[c * rows + row];
      if (k < 0) continue;
      for (int64_t block = 0; block < blocks; ++block) {
        total += partials[((block * lists + c) * features + f) * places + k];
      }
    }
    gradient[row * features + f] = total;
  }
};

template <class T>
Similarities<T> similarities(const InfoNce& contrast) {
  return {contrast.a.rows.data<T>(),
          contrast.b.rows.data<T>(),
          contrast.classes.data<uint8_t>(),
          contrast.keys.data<T>(),
          contrast.lists.chosen.data<int32_t>(),
          contrast.a.rows.shape().n,
          contrast.a.rows.shape().c,
          contrast.lists.chosen.shape().c,
          static_cast<T>(1 / contrast.temperature)};
}

/// Calls `f(T{})` with the type that the unit vectors are in.
template <class F>
void with_unit_type(const Tensor& rows, const F& f) {
  if (rows.dtype() == DType::f64) return f(double{});
  f(float{});
}

}  // namespace

UnitRows unit_rows(const Tensor& x) {
  const int64_t rows = x.shape().rows(), features = x.shape().c;
  const DType dtype = x.dtype() == DType::f64 ? DType::f64 : DType::f32;
  const UnitRows unit{Tensor::empty({rows, features, 1, 1, 1}, dtype, x.device()),
                      Tensor::empty({rows, 1, 1, 1, 1}, dtype, x.device())};
  dispatch_float(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using U = compute_t<T>;
    map_channels(x.device(), "unit_rows", 1, rows, 1,
                 Normalize<T>{x.data<T>(), unit.rows.data<U>(), unit.inverse.data<U>(), features});
  });
  return unit;
}

Tensor unit_rows_backward(const UnitRows& unit, const Tensor& gradient, const Shape& shape, DType dtype) {
  SEMIVOX_CHECK(unit.rows.elements() == shape.elements() && gradient.shape() == unit.rows.shape(),
                gradient.shape().str(), " for ", shape.str());
  Tensor dx = Tensor::empty(shape, dtype, gradient.device());
  dispatch_float(dtype, [&](auto zero) {
    using T = decltype(zero);
    using U = compute_t<T>;
    map_channels(gradient.device(), "unit_rows_backward", 1, shape.rows(), 1,
                 NormalizeBackward<T>{unit.rows.data<U>(), unit.inverse.data<U>(), gradient.data<U>(),
                                      dx.data<T>(), shape.c});
  });
  return dx;
}

Tensor info_nce_forward(InfoNce& contrast) {
  const Shape a = contrast.a.rows.shape(), lists = contrast.lists.chosen.shape();
  const int64_t anchors = a.n, features = a.c;
  SEMIVOX_CHECK(contrast.b.rows.shape() == a && contrast.classes.elements() == anchors &&
                    contrast.negatives.rows.shape().c == features,
                "anchors ", a.str(), " and ", contrast.b.rows.shape().str(), ", ",
                contrast.classes.elements(), " classes, negatives ", contrast.negatives.rows.shape().str());
  const Device device = contrast.a.rows.device();
  const DType dtype = contrast.a.rows.dtype();
  contrast.keys = Tensor::empty({lists.n, features * lists.c, 1, 1, 1}, dtype, device);
  contrast.log_sums = Tensor::empty({2, anchors, 1, 1, 1}, dtype, device);
  const Tensor losses = Tensor::empty({2, anchors, 1, 1, 1}, dtype, device, MemoryTag::workspace);
  Tensor loss = Tensor::empty({}, DType::f64, device);
  with_unit_type(contrast.a.rows, [&](auto zero) {
    using T = decltype(zero);
    map(device, "info_nce.gather", contrast.keys.elements(),
        GatherKeys<T>{contrast.negatives.rows.data<T>(), contrast.lists.chosen.data<int32_t>(),
                      contrast.keys.data<T>(), features, lists.c});
    map_channels(device, "info_nce.log_sums", 2, anchors, 1,
                 LogSums<T>{similarities<T>(contrast), static_cast<T>(std::log(kEpsilon)),
                            contrast.log_sums.data<T>(), losses.data<T>()});
    sum_samples<1>(device, "info_nce.loss", 1, 2 * anchors, AddLosses<T>{losses.data<T>()},
                   loss.data<double>());
  });
  map(device, "info_nce.mean", 1, DivideLoss{loss.data<double>(), static_cast<double>(anchors)});
  return loss;
}

InfoNceGradients info_nce_backward(const InfoNce& contrast, const Tensor& upstream) {
  const Shape anchors = contrast.a.rows.shape(), negatives = contrast.negatives.rows.shape();
  const int64_t lists = contrast.lists.chosen.shape().n, places = contrast.lists.chosen.shape().c;
  const int64_t blocks = (anchors.n + kAnchorBlock - 1) / kAnchorBlock;
  const Device device = contrast.a.rows.device();
  const DType dtype = contrast.a.rows.dtype();
  const InfoNceGradients gradients{Tensor::zeros(anchors, dtype, device),
                                   Tensor::zeros(anchors, dtype, device),
                                   Tensor::empty(negatives, dtype, device)};
  const Tensor partials =
      Tensor::empty({blocks, lists * anchors.c * places, 1, 1, 1}, dtype, device, MemoryTag::workspace);
  with_unit_type(contrast.a.rows, [&](auto zero) {
    using T = decltype(zero);
    const Similarities<T> s = similarities<T>(contrast);
    const T* log_sums = contrast.log_sums.data<T>();
    const double* up = upstream.data<double>();
    map_channels(device, "info_nce.anchor_gradient", 1, anchors.n, 1,
                 AnchorGradient<T>{s, log_sums, up, gradients.a.data<T>(), gradients.b.data<T>()});
    if (device.is_cuda()) {
      map_channels(device, "info_nce.key_gradient", blocks, lists * places, 1,
                   KeyGradient<T, 1>{s, log_sums, up, partials.data<T>(), lists});
    } else {
      map_channels(device, "info_nce.key_gradient", blocks, lists * (places / kTile), 1,
                   KeyGradient<T, kTile>{s, log_sums, up, partials.data<T>(), lists});
    }
    map_channels(
        device, "info_nce.collect", 1, negatives.n, anchors.c,
        CollectKeyGradients<T>{partials.data<T>(), contrast.lists.place.data<int32_t>(),
                               gradients.negatives.data<T>(), blocks, lists, anchors.c, places, negatives.n});
  });
  return gradients;
}

}  // namespace semivox::kernels
