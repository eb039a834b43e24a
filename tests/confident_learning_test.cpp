// Confident learning and order statistics, against sorting and against the numbers of cleanlab.

#include "kernels/confident_learning.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "kernels/order_statistic.hpp"
#include "kernels/uncertainty.hpp"
#include "tests/hash_noise.hpp"
#include "tests/network_check.hpp"

using namespace semivox;
using namespace semivox::testing;
using kernels::ConfidentJoint;
using kernels::LabelIssues;

namespace {

using Counts = std::vector<std::vector<int64_t>>;

/// Samples given one by one: probabilities of the classes and the label.
struct Samples {
  std::vector<std::vector<float>> p;
  std::vector<uint8_t> labels;

  Tensor probabilities() const {
    const auto classes = static_cast<int64_t>(p[0].size());
    const Tensor t = Tensor::empty({1, classes, 1, 1, static_cast<int64_t>(p.size())}, DType::f32, {});
    for (size_t i = 0; i < p.size(); ++i)
      std::copy(p[i].begin(), p[i].end(), t.data<float>() + i * p[i].size());
    return t;
  }
  Tensor label_map() const {
    const Tensor t = Tensor::empty({1, 1, 1, 1, static_cast<int64_t>(labels.size())}, DType::u8, {});
    std::copy(labels.begin(), labels.end(), t.data<uint8_t>());
    return t;
  }
};

/// The mask by the definition: sort the voxels of a class, cut off as many as the joint says.
std::vector<double> by_sorting(const Samples& samples, const ConfidentJoint& joint, LabelIssues rule) {
  const size_t classes = samples.p[0].size();
  std::vector<double> by_class(samples.p.size(), 0), by_rate = by_class, mask = by_class;
  for (size_t k = 0; k < classes; ++k) {
    std::vector<size_t> members;
    for (size_t i = 0; i < samples.p.size(); ++i) {
      if (samples.labels[i] == k) members.push_back(i);
    }
    const auto wrong = static_cast<size_t>(joint.count[k] - joint.calibrated[k][k]);
    if (members.size() <= 1 || wrong == 0) continue;
    std::vector<float> own;
    for (const size_t i : members) own.push_back(samples.p[i][k]);
    std::sort(own.begin(), own.end());
    for (const size_t i : members) by_class[i] = samples.p[i][k] < own[wrong];
    for (size_t j = 0; j < classes; ++j) {
      const auto of_class = static_cast<size_t>(joint.calibrated[k][j]);
      if (j == k || of_class == 0) continue;
      std::vector<float> margins;
      for (const size_t i : members) margins.push_back(samples.p[i][j] - samples.p[i][k]);
      std::sort(margins.rbegin(), margins.rend());
      for (const size_t i : members)
        if (samples.p[i][j] - samples.p[i][k] >= margins[of_class - 1]) by_rate[i] = 1;
    }
  }
  for (size_t i = 0; i < mask.size(); ++i) {
    const auto highest = static_cast<size_t>(std::max_element(samples.p[i].begin(), samples.p[i].end()) -
                                             samples.p[i].begin());
    if (highest == samples.labels[i]) continue;
    if (rule == LabelIssues::by_class) mask[i] = by_class[i];
    if (rule == LabelIssues::by_noise_rate) mask[i] = by_rate[i];
    if (rule == LabelIssues::both) mask[i] = by_class[i] != 0 && by_rate[i] != 0;
  }
  return mask;
}

}  // namespace

TEST_CASE("order statistics are what sorting gives, ties, signs and labels included") {
  std::mt19937 generator(3);
  const int64_t count = 20000;  // more than one block
  const Tensor values = Tensor::empty({1, 1, 1, 1, count}, DType::f32, {});
  const Tensor labels = Tensor::empty(values.shape(), DType::u8, {});
  std::vector<float> kept;
  for (int64_t i = 0; i < count; ++i) {
    const int kind = static_cast<int>(generator() % 4);
    float x = static_cast<float>(static_cast<int>(generator() % 101) - 50) / 64.0f;  // many ties
    if (kind == 0) x = std::ldexp(x, static_cast<int>(generator() % 200) - 100);
    if (kind == 1) x = -0.0f;
    values.data<float>()[i] = x;
    labels.data<uint8_t>()[i] = static_cast<uint8_t>(generator() % 3);
    if (labels.data<uint8_t>()[i] == 1) kept.push_back(x);
  }
  std::sort(kept.begin(), kept.end());
  for (size_t rank = 0; rank < kept.size(); rank += rank < 5 || rank + 6 > kept.size() ? 1 : 97) {
    CAPTURE(rank);
    CHECK(kernels::order_statistic(values, labels, 1, static_cast<int64_t>(rank)) == kept[rank]);
  }
  CHECK_THROWS_AS(kernels::order_statistic(values, labels, 1, static_cast<int64_t>(kept.size())),
                  InternalError);
}

TEST_CASE("confident joint and label issues: the numbers of cleanlab for two classes") {
  const Shape shape{2, 2, 8, 8, 8};
  const auto fill = [&](double scale, uint32_t tag) {
    return by_formula<float>(shape,
                             [&](int64_t i) { return scale * tag_noise(static_cast<uint32_t>(i), tag); });
  };
  const Tensor student = fill(4, 1), own = fill(4, 4);
  const Tensor teacher = by_formula<float>(shape, [&](int64_t i) {
    const int64_t at = channels_last(shape, i);
    return 0.5f * student.data<float>()[at] + own.data<float>()[at];
  });
  const Tensor labels = kernels::hard_labels(student, false), p = kernels::softmax(teacher);
  const ConfidentJoint joint = kernels::confident_joint(p, labels);
  CHECK(joint.count == std::vector<int64_t>{520, 504});
  CHECK(std::abs(joint.threshold[0] - 0.6090165) < 1e-7);
  CHECK(std::abs(joint.threshold[1] - 0.6108700) < 1e-7);
  CHECK(joint.joint == Counts{{292, 138}, {120, 284}});
  CHECK(joint.calibrated == Counts{{353, 167}, {150, 354}});
  const std::vector<double> s = labels.to_doubles(), t = kernels::hard_labels(teacher, false).to_doubles();
  int differ = 0;
  for (size_t i = 0; i < s.size(); ++i) differ += s[i] != t[i];
  CHECK(differ == 350);
  const std::vector<double> mask = kernels::label_issues(p, labels, LabelIssues::both)->to_doubles();
  std::vector<size_t> marked;
  for (size_t i = 0; i < mask.size(); ++i) {
    if (mask[i] != 0) marked.push_back(i);
  }
  CHECK(marked.size() == 317);
  CHECK(std::vector<size_t>(marked.begin(), marked.begin() + 5) == std::vector<size_t>{1, 8, 9, 10, 12});
}

TEST_CASE("label issues: all rules by sorting, for two to four classes, with ties") {
  std::mt19937 generator(5);
  for (const int classes : {2, 3, 4}) {
    for (int round = 0; round < 6; ++round) {
      CAPTURE(classes);
      CAPTURE(round);
      Samples samples;
      for (int i = 0; i < 600; ++i) {
        std::vector<float> p;
        float total = 0;
        for (int c = 0; c < classes; ++c) {
          p.push_back(static_cast<float>(1 + generator() % 16));  // few values: ties
          total += p.back();
        }
        for (float& x : p) x /= total;
        const auto best = static_cast<uint8_t>(std::max_element(p.begin(), p.end()) - p.begin());
        const bool noisy = static_cast<int>(generator() % 10) < round;
        samples.labels.push_back(noisy ? static_cast<uint8_t>(generator() % static_cast<unsigned>(classes))
                                       : best);
        samples.p.push_back(p);
      }
      const Tensor p = samples.probabilities(), labels = samples.label_map();
      const ConfidentJoint joint = kernels::confident_joint(p, labels);
      for (size_t k = 0; k < joint.count.size(); ++k) {
        int64_t total = 0;
        for (const int64_t n : joint.calibrated[k]) total += n;
        CHECK(total == joint.count[k]);
        CHECK(joint.calibrated[k][k] >= 1);
      }
      for (const LabelIssues rule : {LabelIssues::by_class, LabelIssues::by_noise_rate, LabelIssues::both}) {
        const std::vector<double> mask = kernels::label_issues(p, labels, rule)->to_doubles();
        CHECK(mask == by_sorting(samples, joint, rule));
        const double marked = static_cast<double>(std::count(mask.begin(), mask.end(), 1.0));
        if (round == 0) CHECK(marked == 0);  // every label is the most probable one
        if (round == 5) CHECK(marked > 20);
      }
    }
  }
}

TEST_CASE("confident joint: rounding keeps the rows' totals, and one voxel of the own class") {
  // Three voxels labelled 0: each confident class once, so that 1.5 and 1.5 are rounded to 2 and 2 and the
  // last gives one back. t_0 = 0.5, t_1 = 0.6.
  const Samples excess{{{0.9f, 0.1f}, {0.1f, 0.9f}, {0.5f - 1e-4f, 0.5f + 1e-4f}, {0.3f, 0.7f}, {0.5f, 0.5f}},
                       {0, 0, 0, 1, 1}};
  const ConfidentJoint joint = kernels::confident_joint(excess.probabilities(), excess.label_map());
  CHECK(joint.joint[0] == std::vector<int64_t>{1, 1});
  CHECK(joint.calibrated[0] == std::vector<int64_t>{2, 1});
  // No voxel labelled 0 is confidently 0 (t_0 = 0.2333): the diagonal's 1 of 4 becomes 1 of 3.
  const Samples none{{{0.2f, 0.8f}, {0.2f, 0.8f}, {0.3f, 0.7f}, {0.6f, 0.4f}, {0.4f, 0.6f}}, {0, 0, 0, 1, 1}};
  const ConfidentJoint poor = kernels::confident_joint(none.probabilities(), none.label_map());
  CHECK(poor.joint[0] == std::vector<int64_t>{1, 3});
  CHECK(poor.calibrated[0] == std::vector<int64_t>{1, 2});
}

TEST_CASE("label issues: one class only gives nothing; a class that nobody has is left out") {
  Samples one{{{0.9f, 0.1f}, {0.2f, 0.8f}}, {0, 0}};
  CHECK_FALSE(kernels::label_issues(one.probabilities(), one.label_map(), LabelIssues::both).has_value());
  Samples two_of_three;
  std::mt19937 generator(6);
  for (int i = 0; i < 300; ++i) {
    const auto a = static_cast<float>(generator() % 1000) / 1000.0f;
    two_of_three.p.push_back({0.8f * a, 0.8f * (1 - a), 0.2f});
    two_of_three.labels.push_back(static_cast<uint8_t>(generator() % 2));
  }
  const Tensor p = two_of_three.probabilities(), labels = two_of_three.label_map();
  const ConfidentJoint joint = kernels::confident_joint(p, labels);
  CHECK(joint.count[2] == 0);
  CHECK(joint.calibrated[0][2] + joint.calibrated[1][2] + joint.calibrated[2][2] == 0);
  const std::vector<double> mask = kernels::label_issues(p, labels, LabelIssues::both)->to_doubles();
  CHECK(mask == by_sorting(two_of_three, joint, LabelIssues::both));
  CHECK(std::count(mask.begin(), mask.end(), 1.0) > 50);
}
