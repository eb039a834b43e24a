#include "kernels/fecl.hpp"

#include <algorithm>
#include <memory>

#include "kernels/channels.hpp"
#include "kernels/matmul.hpp"

namespace semivox::kernels {

namespace {

/// Pairs in one strip of similarities.
constexpr int64_t kStripPairs = int64_t{1} << 22;

/// Rows of a strip that one thread goes through for the maximum of a column.
constexpr int64_t kMaximumRows = 64;

constexpr double kTiny = 1e-18;

/// 1 - cosine is not taken to be smaller: rounding makes the cosine of equal f32 vectors exceed 1.
constexpr double kClosest = 1e-7;

SEMIVOX_HD inline float power(float x, float y) { return powf(x, y); }
SEMIVOX_HD inline double power(double x, double y) { return pow(x, y); }

/// What is known of every patch of one sample. Sums are written pass by pass.
struct Patches {
  const uint8_t* labels;  // (P)
  double* negatives;      // (P, 2): n_i; patches of the same class, i itself among them
  double* positives;      // (P, 2): sum over j of the focal terms; its derivative by n_i
  double* teacher;        // (P, 2): sum of -log(1 - X_ij) over hard pairs, number of these
};

/// A strip of S, its functors' common part.
template <class T>
struct Strip {
  T* values;         // (rows, P): S, where the diagonal still holds f_i . f_i / tau
  const T* maximum;  // (P): M
  Patches patches;
  int64_t first;  // number of the strip's first patch
  int64_t count;  // P
  T focal;

  SEMIVOX_HD bool same(int64_t row, int64_t j) const {
    return patches.labels[first + row] == patches.labels[j];
  }
  SEMIVOX_HD T similarity(int64_t row, int64_t j) const {
    return first + row == j ? T(0) : values[row * count + j];
  }
};

/// -(1-q)^gamma log(q + tiny) for q = e / (e + n + tiny), and its derivative by q.
template <class T>
struct Focal {
  T q, rest, logarithm_q;
  T weight, slope;  // (1-q)^gamma, gamma (1-q)^(gamma-1)
  SEMIVOX_HD Focal(T e, T n, T gamma) {
    const T denominator = e + n + T(kTiny);
    q = e / denominator;
    rest = (n + T(kTiny)) / denominator;  // 1 - q, without cancellation
    logarithm_q = logarithm(q + T(kTiny));
    if (gamma == T(0)) {
      weight = T(1);
      slope = T(0);
    } else {
      const T lower = gamma == T(2) ? rest : power(rest, gamma - T(1));  // 2, the usual case, is much faster
      weight = lower * rest;
      slope = gamma * lower;
    }
  }
  SEMIVOX_HD T value() const { return -weight * logarithm_q; }
  SEMIVOX_HD T derivative() const { return slope * logarithm_q - weight / (q + T(kTiny)); }
};

/// Largest S of every column over kMaximumRows rows of the strip.
template <class T>
struct PartialMaximum {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  Strip<T> strip;
  int64_t rows;
  T* partials;  // (chunks, P)
  SEMIVOX_HD void operator()(int64_t index) const {
    const int64_t j = index % strip.count, begin = index / strip.count * kMaximumRows;
    const int64_t end = begin + kMaximumRows < rows ? begin + kMaximumRows : rows;
    T highest = strip.similarity(begin, j);
    for (int64_t row = begin + 1; row < end; ++row) {
      const T s = strip.similarity(row, j);
      highest = s > highest ? s : highest;
    }
    partials[index] = highest;
  }
};

template <class T>
struct CombineMaximum {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* partials;  // (chunks, P)
  int64_t chunks, count;
  T* maximum;  // (P)
  SEMIVOX_HD void operator()(int64_t j) const {
    T highest = maximum[j];
    for (int64_t k = 0; k < chunks; ++k) {
      const T s = partials[k * count + j];
      highest = s > highest ? s : highest;
    }
    maximum[j] = highest;
  }
};

/// n_i and the size of the class.
template <class T>
struct SumNegatives {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  Strip<T> strip;
  SEMIVOX_HD void operator()(int64_t row, int64_t j, double* sums) const {
    if (strip.same(row, j)) {
      sums[1] += 1;
    } else {
      sums[0] += static_cast<double>(exponential(strip.similarity(row, j) - strip.maximum[j]));
    }
  }
};

/// The focal terms of a row's positive pairs and their derivative by n_i.
template <class T>
struct SumPositives {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  Strip<T> strip;
  SEMIVOX_HD void operator()(int64_t row, int64_t j, double* sums) const {
    const int64_t i = strip.first + row;
    if (i == j || !strip.same(row, j)) return;
    const T n = static_cast<T>(strip.patches.negatives[2 * i]);
    const T e = exponential(strip.similarity(row, j) - strip.maximum[j]);
    const Focal<T> focal(e, n, strip.focal);
    sums[0] += static_cast<double>(focal.value());
    sums[1] -= static_cast<double>(focal.derivative() * focal.q / (e + n + T(kTiny)));
  }
};

/// The pairs with the teacher; here a strip holds cosines, X.
template <class T>
struct SumTeacher {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  Strip<T> strip;
  StepNumber threshold;
  SEMIVOX_HD void operator()(int64_t row, int64_t j, double* sums) const {
    const T x = strip.values[row * strip.count + j];
    if (strip.same(row, j) || !(x > static_cast<T>(threshold.get()))) return;
    const T distance = T(1) - x;
    sums[0] -= static_cast<double>(logarithm(distance < T(kClosest) ? T(kClosest) : distance));
    sums[1] += 1;
  }
};

/// Adds the rows of all samples up.
struct SumRows {
  Patches all;
  SEMIVOX_HD void operator()(int64_t, int64_t i, double* sums) const {
    sums[0] += all.positives[2 * i] / (all.negatives[2 * i + 1] - 1 + kTiny);
    sums[1] += all.teacher[2 * i];
    sums[2] += all.teacher[2 * i + 1];
  }
};

struct Results {
  const double* totals;  // (3) of SumRows
  double* results;       // FeCL, L_s, L_x, pairs
  double* loss;
  int64_t rows;  // of all samples
  double cross;
  SEMIVOX_HD void operator()(int64_t) const {
    results[1] = totals[0] / static_cast<double>(rows);
    results[2] = totals[2] > 0 ? totals[1] / totals[2] : 0.0;
    results[3] = totals[2];
    results[0] = results[1] + cross * results[2];
    loss[0] = results[0];
  }
};

/// What a row's pairs have in common in the gradient.
template <class T>
struct RowFactors {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  Patches all;
  const double* upstream;  // (1)
  double share;            // of one patch in the mean: 1 / (B P)
  T* factors;              // (B, P, 2): dL/d(focal term of a pair), dL/dn_i
  SEMIVOX_HD void operator()(int64_t i) const {
    const double term = upstream[0] * share / (all.negatives[2 * i + 1] - 1 + kTiny);
    factors[2 * i] = static_cast<T>(term);
    factors[2 * i + 1] = static_cast<T>(term * all.positives[2 * i + 1]);
  }
};

/// In place: S_ij becomes dL/dS_ij + dL/dS_ji.
template <class T>
struct SimilarityGradient {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  Strip<T> strip;
  const T* factors;  // (P, 2): see RowFactors

  /// dL/dS_ij.
  SEMIVOX_HD T one_way(int64_t i, int64_t j, T similarity, bool positive) const {
    const T e = exponential(similarity - strip.maximum[j]);
    if (!positive) return factors[2 * i + 1] * e;
    const Focal<T> focal(e, static_cast<T>(strip.patches.negatives[2 * i]), strip.focal);
    return factors[2 * i] * focal.derivative() * focal.q * focal.rest;
  }

  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t j) const {
    const int64_t i = strip.first + row;
    T& value = strip.values[row * strip.count + j];
    if (i == j) {
      value = T(0);
      return;
    }
    const bool positive = strip.same(row, j);
    value = one_way(i, j, value, positive) + one_way(j, i, value, positive);
  }
};

/// In place: X_ij becomes dL/dX_ij.
template <class T>
struct TeacherGradient {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  Strip<T> strip;
  StepNumber threshold;
  const double* upstream;  // (1)
  const double* totals;    // (3) of SumRows
  double cross;
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t j) const {
    T& x = strip.values[row * strip.count + j];
    const T distance = T(1) - x;
    const bool counts =
        !strip.same(row, j) && x > static_cast<T>(threshold.get()) && !(distance < T(kClosest));
    x = counts ? static_cast<T>(upstream[0] * cross / totals[2]) / distance : T(0);
  }
};

/// One evaluation: what forward leaves for backward, and the walk over samples and strips.
template <class T>
class Evaluation {
 public:
  Evaluation(const Tensor& features, const Tensor& teacher, const Tensor& labels, const FeclOptions& options)
      : features_(features),
        teacher_(teacher),
        labels_(labels),
        options_(options),
        device_(features.device()),
        samples_(features.shape().n),
        count_(features.shape().voxels()),
        maximum_(zeros(dtype_of<T>(), 1)),
        negatives_(zeros(DType::f64, 2)),
        positives_(zeros(DType::f64, 2)),
        with_teacher_(zeros(DType::f64, 2)),
        totals_(Tensor::zeros({1, 3, 1, 1, 1}, DType::f64, device_)) {}

  void forward(Tensor& results, Tensor& loss) {
    const int64_t chunks = (strip_rows() + kMaximumRows - 1) / kMaximumRows;
    const Tensor partials =
        Tensor::empty({1, chunks * count_, 1, 1, 1}, dtype_of<T>(), device_, MemoryTag::workspace);
    T* maxima = partials.template data<T>();  // (chunks, P)
    for_each_strip([&](const Strip<T>& strip, int64_t rows, Tensor& values) {
      similarities(strip, rows, values);
      const int64_t used = (rows + kMaximumRows - 1) / kMaximumRows;
      map(device_, "fecl.partial_maximum", used * count_, PartialMaximum<T>{strip, rows, maxima});
      map(device_, "fecl.maximum", count_,
          CombineMaximum<T>{maxima, used, count_, maximum_.template data<T>() + sample_ * count_});
    });
    for_each_strip([&](const Strip<T>& strip, int64_t rows, Tensor& values) {
      similarities(strip, rows, values);
      const int64_t first = 2 * strip.first;
      sum_samples<2>(device_, "fecl.negatives", rows, count_, SumNegatives<T>{strip},
                     strip.patches.negatives + first);
      sum_samples<2>(device_, "fecl.positives", rows, count_, SumPositives<T>{strip},
                     strip.patches.positives + first);
      if (options_.cross == 0) return;
      cosines(strip, rows, values);
      sum_samples<2>(device_, "fecl.teacher", rows, count_, SumTeacher<T>{strip, options_.threshold},
                     strip.patches.teacher + first);
    });
    sum_samples<3>(device_, "fecl.rows", 1, samples_ * count_, SumRows{patches_of(0)},
                   totals_.template data<double>());
    map(device_, "fecl.results", 1,
        Results{totals_.template data<double>(), results.data<double>(), loss.data<double>(),
                samples_ * count_, options_.cross});
  }

  Tensor backward(const Tensor& upstream) {
    Tensor gradient = Tensor::empty(features_.shape(), dtype_of<T>(), device_);
    const double* factor = upstream.data<double>();
    const int64_t rows_of_all = samples_ * count_;
    const Tensor row_factors =
        Tensor::empty({1, 2 * rows_of_all, 1, 1, 1}, dtype_of<T>(), device_, MemoryTag::workspace);
    map(device_, "fecl.row_factors", rows_of_all,
        RowFactors<T>{patches_of(0), factor, 1.0 / static_cast<double>(rows_of_all),
                      row_factors.template data<T>()});
    for_each_strip([&](const Strip<T>& strip, int64_t rows, Tensor& values) {
      Tensor into = rows_of(gradient, sample_ * count_ + strip.first, rows);
      similarities(strip, rows, values);
      map_channels(device_, "fecl.gradient", 1, rows, count_,
                   SimilarityGradient<T>{strip, row_factors.template data<T>() + 2 * sample_ * count_});
      matmul(values, false, sample_rows(features_), false, 1.0 / options_.temperature, 0, into);
      if (options_.cross == 0) return;
      cosines(strip, rows, values);
      map_channels(device_, "fecl.teacher_gradient", 1, rows, count_,
                   TeacherGradient<T>{strip, options_.threshold, factor, totals_.template data<double>(),
                                      options_.cross});
      matmul(values, false, sample_rows(teacher_), false, 1, 1, into);
    });
    return gradient;
  }

 private:
  Tensor zeros(DType dtype, int64_t columns) const {
    return Tensor::zeros({1, samples_ * count_ * columns, 1, 1, 1}, dtype, device_);
  }

  int64_t strip_rows() const { return std::clamp<int64_t>(kStripPairs / count_, 1, count_); }

  Patches patches_of(int64_t sample) const {
    const int64_t first = sample * count_;
    return {labels_.data<uint8_t>() + first, negatives_.template data<double>() + 2 * first,
            positives_.template data<double>() + 2 * first,
            with_teacher_.template data<double>() + 2 * first};
  }

  /// Rows of the current sample.
  Tensor sample_rows(const Tensor& features) const { return rows_of(features, sample_ * count_, count_); }

  /// Calls `visit(strip, rows, values)` for all strips of all samples; `values` is the strip's memory.
  template <class Visit>
  void for_each_strip(const Visit& visit) {
    const Tensor memory =
        Tensor::empty({1, strip_rows() * count_, 1, 1, 1}, dtype_of<T>(), device_, MemoryTag::workspace);
    for (sample_ = 0; sample_ < samples_; ++sample_) {
      for (int64_t first = 0; first < count_; first += strip_rows()) {
        const int64_t rows = std::min(strip_rows(), count_ - first);
        Tensor values = memory.slice(0, rows * count_).reshaped({1, count_, 1, 1, rows});
        visit(Strip<T>{values.template data<T>(), maximum_.template data<T>() + sample_ * count_,
                       patches_of(sample_), first, count_, static_cast<T>(options_.focal)},
              rows, values);
      }
    }
  }

  void similarities(const Strip<T>& strip, int64_t rows, Tensor& values) const {
    const Tensor all = sample_rows(features_);
    matmul(rows_of(all, strip.first, rows), false, all, true, 1.0 / options_.temperature, 0, values);
  }

  void cosines(const Strip<T>& strip, int64_t rows, Tensor& values) const {
    const Tensor own = rows_of(sample_rows(features_), strip.first, rows);
    matmul(own, false, sample_rows(teacher_), true, 1, 0, values);
  }

  Tensor features_, teacher_, labels_;
  FeclOptions options_;
  Device device_;
  int64_t samples_, count_;  // B, P
  int64_t sample_ = 0;       // the current one of for_each_strip
  // The diagonal's 0 is in every column, so the maxima start from it.
  Tensor maximum_;                               // (B, P)
  Tensor negatives_, positives_, with_teacher_;  // (B, P, 2): see Patches
  Tensor totals_;                                // (3)
};

}  // namespace

LossValue fecl(const Variable& features, const Tensor& teacher, const Tensor& labels,
               const FeclOptions& options) {
  const Shape shape = features.shape();
  const Tensor values = features.value();
  SEMIVOX_CHECK(labels.shape() == shape.with_channels(1), labels.shape().str(), " labels for ", shape.str());
  SEMIVOX_CHECK(options.cross == 0 || (teacher.shape() == shape && teacher.dtype() == values.dtype()),
                "teacher's features for ", shape.str());
  LossValue value;
  value.results = Tensor::empty({1, 4, 1, 1, 1}, DType::f64, values.device());
  Tensor loss = Tensor::empty({}, DType::f64, values.device());
  const auto run = [&](auto zero) {
    const auto evaluation = std::make_shared<Evaluation<decltype(zero)>>(values, teacher, labels, options);
    evaluation->forward(value.results, loss);
    value.loss = Variable::result(loss, {features}, false,
                                  [evaluation, features = features.for_backward()](const Tensor& upstream) {
                                    features.add_gradient(evaluation->backward(upstream));
                                  });
  };
  if (values.dtype() == DType::f64) {
    run(double{});
  } else {
    run(float{});
  }
  return value;
}

}  // namespace semivox::kernels
