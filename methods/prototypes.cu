#include "methods/prototypes.hpp"

#include <algorithm>
#include <numeric>

#include "engine/arithmetic.hpp"
#include "engine/launch.hpp"
#include "kernels/dual.hpp"

namespace semivox {

namespace {

constexpr double kShortest = 1e-12;  // vectors are divided by their length or by this

template <class T>
SEMIVOX_HD inline T length_of(const T* x, int64_t channels) {
  T square = T(0);
  for (int64_t c = 0; c < channels; ++c) square += x[c] * x[c];
  return sqrt(square);
}

/// Mean of the normalised prototypes.
template <class P>
struct MeanDirection {
  static constexpr bool kHostOnly = std::is_same_v<P, double>;
  const P* prototypes;  // (K, C)
  P* mean;              // (C)
  int64_t count, channels;
  SEMIVOX_HD void operator()(int64_t c) const {
    double total = 0;
    for (int64_t j = 0; j < count; ++j) {
      const double length = length_of(prototypes + j * channels, channels);
      total += prototypes[j * channels + c] / (length > kShortest ? length : kShortest);
    }
    mean[c] = static_cast<P>(total / static_cast<double>(count));
  }
};

/// What a row adds to the loss: its distance 1 - F.m/|F| and its weight.
template <class T>
struct RowTerm {
  using P = compute_t<T>;
  const T* rows;    // (M, C)
  const T* scores;  // (M)
  const P* mean;    // (C)
  int64_t channels;
  P length, cosine, weight;

  SEMIVOX_HD void evaluate(int64_t i) {
    P dot = P(0), square = P(0);
    for (int64_t c = 0; c < channels; ++c) {
      const P value = static_cast<P>(rows[i * channels + c]);
      dot += value * mean[c];
      square += value * value;
    }
    length = sqrt(square);
    cosine = dot / (length > P(kShortest) ? length : P(kShortest));
    weight = P(1) / (P(1) + exponential(-static_cast<P>(scores[i])));
  }
};

template <class T>
struct DistanceSums {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  RowTerm<T> term;
  SEMIVOX_HD void operator()(int64_t, int64_t i, double* sums) const {
    RowTerm<T> row = term;
    row.evaluate(i);
    sums[0] += static_cast<double>(row.weight) * (1.0 - static_cast<double>(row.cosine));
    sums[1] += row.weight;
  }
};

struct Quotient {
  const double* sums;  // (2)
  double* loss;
  SEMIVOX_HD void operator()(int64_t) const { loss[0] = sums[0] / sums[1]; }
};

/// d L / d F_i = -w_i / W (m - cos_i f_i) / |F_i|,  d L / d score_i = w_i (1 - w_i) (1 - cos_i - L) / W.
template <class T>
struct DistanceGradient {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  using P = compute_t<T>;
  RowTerm<T> term;
  const double* sums;      // (2)
  const double* upstream;  // (1)
  T* d_rows;               // (M, C) or null
  T* d_scores;             // (M) or null
  SEMIVOX_HD void operator()(int64_t i) const {
    RowTerm<T> row = term;
    row.evaluate(i);
    const P share = static_cast<P>(upstream[0] * static_cast<double>(row.weight) / sums[1]);
    if (d_scores != nullptr) {
      const P excess = static_cast<P>(1.0 - static_cast<double>(row.cosine) - sums[0] / sums[1]);
      d_scores[i] = share * (P(1) - row.weight) * excess;
    }
    if (d_rows == nullptr) return;
    const bool normal = row.length > P(kShortest);
    const P inverse = P(1) / (normal ? row.length : P(kShortest));
    const P along = normal ? row.cosine * inverse : P(0);  // a row of length 0 has no direction to lose
    for (int64_t c = 0; c < row.channels; ++c) {
      const P value = static_cast<P>(row.rows[i * row.channels + c]);
      d_rows[i * row.channels + c] = -share * inverse * (row.mean[c] - along * value);
    }
  }
};

}  // namespace

PrototypeMemory::PrototypeMemory(int64_t classes, int64_t channels, int64_t capacity, DType dtype,
                                 Device device)
    : vectors_(Tensor::zeros({classes, channels, 1, 1, capacity}, dtype, device, MemoryTag::weights)),
      counts_(Tensor::zeros({classes, 1, 1, 1, 1}, DType::i32, Device{}, MemoryTag::weights)) {}

Tensor PrototypeMemory::of_class(int64_t c) const {
  const int64_t channels = vectors_.shape().c;
  return vectors_.slice(c * capacity() * channels, count(c) * channels)
      .reshaped({1, channels, 1, 1, count(c)});
}

void PrototypeMemory::replace(int64_t c, const Tensor& rows) {
  const int64_t channels = vectors_.shape().c, count = rows.shape().w;
  SEMIVOX_CHECK(rows.shape() == Shape({1, channels, 1, 1, count}) && count <= capacity(), rows.shape().str(),
                " for ", vectors_.shape().str());
  Tensor all = vectors_.samples(c, 1);
  all.fill_zero();
  counts_.data<int32_t>()[c] = static_cast<int32_t>(count);
  of_class(c).copy_from(cast(rows, vectors_.dtype()));
}

std::vector<int32_t> ranked(const std::vector<double>& scores, int64_t count, bool highest) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  const auto end = order.begin() + std::min<int64_t>(count, static_cast<int64_t>(order.size()));
  std::partial_sort(order.begin(), end, order.end(), [&](int32_t a, int32_t b) {
    const double x = scores[static_cast<size_t>(a)], y = scores[static_cast<size_t>(b)];
    return x != y ? (highest ? x > y : x < y) : a < b;
  });
  order.erase(end, order.end());
  return order;
}

Variable prototype_distance(const Variable& rows, const Variable& scores, const Tensor& prototypes) {
  const Tensor f = rows.value(), s = scores.value();
  const int64_t channels = f.shape().c, count = f.shape().w, known = prototypes.shape().w;
  SEMIVOX_CHECK(f.shape() == Shape({1, channels, 1, 1, count}) && s.shape() == f.shape().with_channels(1) &&
                    s.dtype() == f.dtype() && prototypes.shape() == Shape({1, channels, 1, 1, known}) &&
                    count > 0 && known > 0,
                f.shape().str(), " with scores ", s.shape().str(), " and prototypes ",
                prototypes.shape().str());
  const Device device = f.device();
  const Tensor mean = Tensor::empty({1, channels, 1, 1, 1}, prototypes.dtype(), device);
  const Tensor sums = Tensor::empty({1, 2, 1, 1, 1}, DType::f64, device);
  Tensor loss = Tensor::empty({}, DType::f64, device);
  dispatch_float(f.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using P = compute_t<T>;
    kernels::map(device, "prototypes.mean", channels,
                 MeanDirection<P>{prototypes.data<P>(), mean.data<P>(), known, channels});
    const RowTerm<T> term{f.data<T>(), s.data<T>(), mean.data<P>(), channels, P(0), P(0), P(0)};
    kernels::sum_samples<2>(device, "prototypes.distance", 1, count, DistanceSums<T>{term},
                            sums.data<double>());
    kernels::map(device, "prototypes.quotient", 1, Quotient{sums.data<double>(), loss.data<double>()});
  });
  return Variable::result(loss, {rows, scores}, false, [=](const Tensor& upstream) {
    dispatch_float(f.dtype(), [&](auto zero) {
      using T = decltype(zero);
      using P = compute_t<T>;
      Tensor d_rows, d_scores;
      if (rows.needs_gradient()) d_rows = Tensor::empty(f.shape(), f.dtype(), device);
      if (scores.needs_gradient()) d_scores = Tensor::empty(s.shape(), s.dtype(), device);
      const RowTerm<T> term{f.data<T>(), s.data<T>(), mean.data<P>(), channels, P(0), P(0), P(0)};
      kernels::map(device, "prototypes.gradient", count,
                   DistanceGradient<T>{term, sums.data<double>(), upstream.data<double>(),
                                       d_rows.defined() ? d_rows.data<T>() : nullptr,
                                       d_scores.defined() ? d_scores.data<T>() : nullptr});
      if (d_rows.defined()) rows.add_gradient(d_rows);
      if (d_scores.defined()) scores.add_gradient(d_scores);
    });
  });
}

}  // namespace semivox
