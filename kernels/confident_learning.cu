#include "kernels/confident_learning.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/launch.hpp"
#include "kernels/atomics.hpp"
#include "kernels/classes.hpp"
#include "kernels/order_statistic.hpp"

namespace semivox::kernels {

namespace {

/// A threshold is reached from this much below it.
constexpr double kThresholdSlack = 1e-6;

/// Per given label: how many voxels, and the sum of the label's probabilities.
struct SumOwnProbability {
  const float* p;         // (rows, C)
  const uint8_t* labels;  // (rows)
  int64_t voxels;
  int classes;
  SEMIVOX_HD void operator()(int64_t sample, int64_t v, double* sums) const {
    const int64_t row = sample * voxels + v;
    const int label = labels[row];
    sums[label] += 1;
    sums[kMaxClasses + label] += static_cast<double>(p[row * classes + label]);
  }
};

/// Class of the highest probability, ties to the lower.
SEMIVOX_HD inline int most_probable(const float* p, int classes) {
  int best = 0;
  for (int c = 1; c < classes; ++c) best = p[c] > p[best] ? c : best;
  return best;
}

struct CountConfident {
  const float* p;         // (rows, C)
  const uint8_t* labels;  // (rows)
  int32_t* joint;         // (C, C)
  int classes;
  double threshold[kMaxClasses];  // without the slack
  SEMIVOX_HD void operator()(int64_t row) const {
    const float* own = p + row * classes;
    int confident = 0, guess = 0;
    for (int c = 0; c < classes; ++c) {
      if (static_cast<double>(own[c]) < threshold[c]) continue;
      ++confident;
      guess = c;
    }
    if (confident == 0) return;
    if (confident > 1) guess = most_probable(own, classes);
    atomic_add(joint + labels[row] * classes + guess, 1);
  }
};

/// P_j, or the margin P_j - P_k.
struct Column {
  const float* p;     // (rows, C)
  float* out;         // (rows)
  int classes, j, k;  // k < 0: none
  SEMIVOX_HD void operator()(int64_t row) const {
    const float* own = p + row * classes;
    out[row] = k < 0 ? own[j] : own[j] - own[k];
  }
};

/// Where the rules cut, in the order of the given label.
struct Cuts {
  float own[kMaxClasses];                   ///< wrong where P_k is below; -infinity: never
  float margin[kMaxClasses * kMaxClasses];  ///< [k][j]: wrong where P_j - P_k reaches it; infinity: never
};

struct MarkIssues {
  const float* p;         // (rows, C)
  const uint8_t* labels;  // (rows)
  uint8_t* mask;          // (rows)
  int classes;
  LabelIssues rule;
  Cuts cuts;
  SEMIVOX_HD void operator()(int64_t row) const {
    const float* own = p + row * classes;
    const int k = labels[row];
    const bool by_class = own[k] < cuts.own[k];
    bool by_noise_rate = false;
    for (int j = 0; j < classes; ++j)
      by_noise_rate = by_noise_rate || (j != k && own[j] - own[k] >= cuts.margin[k * kMaxClasses + j]);
    const bool wrong = rule == LabelIssues::by_class        ? by_class
                       : rule == LabelIssues::by_noise_rate ? by_noise_rate
                                                            : by_class && by_noise_rate;
    mask[row] = wrong && most_probable(own, classes) != k;
  }
};

/// Whole numbers in the proportions of `row` that add up to `total`: each rounded to nearest even, what is
/// then missing given to those that lost most by it, what is too much taken from those that won most.
std::vector<int64_t> apportion(const std::vector<int64_t>& row, int64_t total) {
  const auto sum = static_cast<double>(std::accumulate(row.begin(), row.end(), int64_t{0}));
  std::vector<int64_t> whole;
  std::vector<double> lost;
  for (const int64_t value : row) {
    const double exact = static_cast<double>(value) / sum * static_cast<double>(total);
    whole.push_back(static_cast<int64_t>(std::nearbyint(exact)));
    lost.push_back(exact - std::nearbyint(exact));
  }
  const int64_t missing = total - std::accumulate(whole.begin(), whole.end(), int64_t{0});
  const int64_t change = missing > 0 ? 1 : -1;
  std::vector<size_t> order(row.size());
  std::iota(order.rbegin(), order.rend(), size_t{0});  // equal ones: the last first
  std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) {
    return static_cast<double>(change) * lost[i] > static_cast<double>(change) * lost[j];
  });
  // Rounding moves an entry by a half at most, so fewer are missing than there are entries.
  for (size_t i = 0; i < static_cast<size_t>(std::abs(missing)); ++i) whole[order[i]] += change;
  return whole;
}

/// A row keeps at least one voxel of its own class, taken from its largest other entry.
void keep_one(std::vector<int64_t>& row, size_t own) {
  if (row[own] > 0) return;
  --*std::max_element(row.begin(), row.end());
  row[own] = 1;
}

}  // namespace

ConfidentJoint confident_joint(const Tensor& probabilities, const Tensor& labels) {
  const Shape shape = probabilities.shape();
  const Device device = probabilities.device();
  const int classes = static_cast<int>(shape.c);
  SEMIVOX_CHECK(labels.shape() == shape.with_channels(1) && classes >= 2 && classes <= kMaxClasses,
                labels.shape().str(), " labels for probabilities ", shape.str());
  SEMIVOX_CHECK(shape.rows() < (int64_t{1} << 31), shape.str());
  const Tensor sums_tensor = Tensor::empty({1, shape.n * 2 * kMaxClasses, 1, 1, 1}, DType::f64, device);
  sum_samples<2 * kMaxClasses>(
      device, "confident_learning.sums", shape.n, shape.voxels(),
      SumOwnProbability{probabilities.data<float>(), labels.data<uint8_t>(), shape.voxels(), classes},
      sums_tensor.data<double>());
  const std::vector<double> sums = sums_tensor.to_doubles();  // (N, 2, kMaxClasses)

  ConfidentJoint result;
  CountConfident count{probabilities.data<float>(), labels.data<uint8_t>(), nullptr, classes, {}};
  for (int k = 0; k < classes; ++k) {
    double labeled = 0, probability = 0;
    for (int64_t n = 0; n < shape.n; ++n) {
      labeled += sums[static_cast<size_t>(2 * n * kMaxClasses + k)];
      probability += sums[static_cast<size_t>((2 * n + 1) * kMaxClasses + k)];
    }
    result.count.push_back(static_cast<int64_t>(labeled));
    result.threshold.push_back(labeled > 0 ? probability / labeled : 2.0);
    count.threshold[k] = result.threshold.back() - kThresholdSlack;
  }

  const Tensor joint_tensor = Tensor::zeros({1, classes, 1, 1, classes}, DType::i32, device);
  count.joint = joint_tensor.data<int32_t>();
  map(device, "confident_learning.joint", shape.rows(), count);
  const Tensor joint = joint_tensor.to(Device{});
  for (int i = 0; i < classes; ++i) {
    const int32_t* row = joint.data<int32_t>() + i * classes;
    result.joint.emplace_back(row, row + classes);
    const auto own = static_cast<size_t>(i);
    result.joint[own][own] = std::max<int64_t>(result.joint[own][own], 1);
    result.calibrated.push_back(apportion(result.joint[own], result.count[own]));
    if (result.count[own] > 0) keep_one(result.calibrated[own], own);
  }
  return result;
}

std::optional<Tensor> label_issues(const Tensor& probabilities, const Tensor& labels, LabelIssues rule) {
  const ConfidentJoint joint = confident_joint(probabilities, labels);
  const auto occurring =
      std::count_if(joint.count.begin(), joint.count.end(), [](int64_t n) { return n > 0; });
  if (occurring < 2) return std::nullopt;

  const Device device = probabilities.device();
  const int64_t rows = probabilities.shape().rows();
  const int classes = static_cast<int>(probabilities.shape().c);
  const float* p = probabilities.data<float>();
  const Tensor values = Tensor::empty(labels.shape(), DType::f32, device, MemoryTag::workspace);
  MarkIssues mark{p, labels.data<uint8_t>(), nullptr, classes, rule, {}};
  std::fill(std::begin(mark.cuts.own), std::end(mark.cuts.own), -INFINITY);
  std::fill(std::begin(mark.cuts.margin), std::end(mark.cuts.margin), INFINITY);
  for (int k = 0; k < classes; ++k) {
    const std::vector<int64_t>& row = joint.calibrated[static_cast<size_t>(k)];
    const int64_t given = joint.count[static_cast<size_t>(k)], wrong = given - row[static_cast<size_t>(k)];
    if (given <= 1 || wrong == 0) continue;
    map(device, "confident_learning.own", rows, Column{p, values.data<float>(), classes, k, -1});
    mark.cuts.own[k] = order_statistic(values, labels, k, wrong);
    for (int j = 0; j < classes; ++j) {
      const int64_t of_class = row[static_cast<size_t>(j)];
      if (j == k || of_class == 0) continue;
      map(device, "confident_learning.margin", rows, Column{p, values.data<float>(), classes, j, k});
      mark.cuts.margin[k * kMaxClasses + j] = order_statistic(values, labels, k, given - of_class);
    }
  }
  Tensor mask = Tensor::empty(labels.shape(), DType::u8, device);
  mark.mask = mask.data<uint8_t>();
  map(device, "confident_learning.mark", rows, mark);
  return mask;
}

}  // namespace semivox::kernels
