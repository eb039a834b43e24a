// Scores against numbers made with SciPy by MedPy's definitions, and every empty policy.
#include "methods/metrics.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "engine/parallel.hpp"
#include "engine/random.hpp"
#include "io/nifti.hpp"

using namespace semivox;

namespace {

constexpr std::array<double, 3> kVoxels{1, 1, 1};

using Mask = std::vector<uint8_t>;

/// Adds {((x-cx)/rx)^2 + ((y-cy)/ry)^2 + ((z-cz)/rz)^2 <= 1} to the mask.
void add_ellipsoid(Mask& mask, const io::Extent3& shape, std::array<double, 3> centre,
                   std::array<double, 3> radius) {
  size_t v = 0;
  for (int64_t x = 0; x < shape[0]; ++x)
    for (int64_t y = 0; y < shape[1]; ++y)
      for (int64_t z = 0; z < shape[2]; ++z, ++v) {
        const double a = (static_cast<double>(x) - centre[0]) / radius[0];
        const double b = (static_cast<double>(y) - centre[1]) / radius[1];
        const double c = (static_cast<double>(z) - centre[2]) / radius[2];
        if (a * a + b * b + c * c <= 1) mask[v] = 1;
      }
}

void check_close(double found, double expected, double tolerance) {
  CAPTURE(found);
  CAPTURE(expected);
  CHECK(std::abs(found - expected) <= tolerance);
}

void check_scores(const Scores& found, double dice, double jaccard, double hd95, double asd) {
  constexpr double kTolerance = 1e-10;  // the expected values have ten decimals
  check_close(found.dice, dice, kTolerance);
  check_close(found.jaccard, jaccard, kTolerance);
  check_close(found.hd95, hd95, kTolerance);
  check_close(found.asd, asd, kTolerance);
}

/// Distances by the definition: every surface voxel against every other.
std::array<double, 2> brute_force_hd95_asd(const Mask& p, const Mask& g, const io::Extent3& s,
                                           const std::array<double, 3>& spacing) {
  using Point = std::array<double, 3>;
  const auto surface = [&](const Mask& mask) {
    const auto at = [&](int64_t i, int64_t j, int64_t k) {
      const bool outside = i < 0 || j < 0 || k < 0 || i >= s[0] || j >= s[1] || k >= s[2];
      return !outside && mask[static_cast<size_t>((i * s[1] + j) * s[2] + k)] != 0;
    };
    std::vector<Point> points;
    for (int64_t i = 0; i < s[0]; ++i)
      for (int64_t j = 0; j < s[1]; ++j)
        for (int64_t k = 0; k < s[2]; ++k) {
          const bool inside = at(i - 1, j, k) && at(i + 1, j, k) && at(i, j - 1, k) && at(i, j + 1, k) &&
                              at(i, j, k - 1) && at(i, j, k + 1);
          if (at(i, j, k) && !inside) {
            points.push_back({spacing[0] * static_cast<double>(i), spacing[1] * static_cast<double>(j),
                              spacing[2] * static_cast<double>(k)});
          }
        }
    return points;
  };
  const auto distances = [](const std::vector<Point>& from, const std::vector<Point>& to) {
    std::vector<double> result;
    for (const Point& a : from) {
      double best = INFINITY;
      for (const Point& b : to) {
        best = std::min(best, std::hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]));
      }
      result.push_back(best);
    }
    return result;
  };
  const std::vector<Point> sp = surface(p), sg = surface(g);
  std::vector<double> all = distances(sp, sg);
  double sum = 0;
  for (const double d : all) sum += d;
  const double asd = sum / static_cast<double>(all.size());
  const std::vector<double> reverse = distances(sg, sp);
  all.insert(all.end(), reverse.begin(), reverse.end());
  std::sort(all.begin(), all.end());
  const double position = 0.95 * static_cast<double>(all.size() - 1);
  const size_t low = static_cast<size_t>(position), high = std::min(low + 1, all.size() - 1);
  return {all[low] + (position - static_cast<double>(low)) * (all[high] - all[low]), asd};
}

}  // namespace

TEST_CASE("metrics: ellipsoids with an outlying box") {
  const io::Extent3 shape{40, 36, 28};
  Mask p(40 * 36 * 28), g(40 * 36 * 28);
  add_ellipsoid(p, shape, {19, 17, 13}, {12, 10, 8});
  for (int64_t x = 34; x <= 36; ++x)
    for (int64_t y = 2; y <= 3; ++y)
      for (int64_t z = 2; z <= 3; ++z) p[static_cast<size_t>((x * 36 + y) * 28 + z)] = 1;
  add_ellipsoid(g, shape, {20.5, 17, 14}, {11, 11, 7.5});
  const Scores scores = segmentation_scores(p.data(), g.data(), shape, 1, kVoxels, EmptyPolicy::nan);
  check_scores(scores, 0.8455947979, 0.7324939253, 2.2360679775, 1.2048216204);
  CHECK(scores.counts.true_positive == 3316);
  CHECK(scores.counts.false_positive == 4041 - 3316);
  CHECK(scores.counts.false_negative == 3802 - 3316);
  CHECK(scores.counts.true_negative == 40 * 36 * 28 - 4041 - 3802 + 3316);
  const Scores reverse = segmentation_scores(g.data(), p.data(), shape, 1, kVoxels, EmptyPolicy::nan);
  check_scores(reverse, 0.8455947979, 0.7324939253, 2.2360679775, 0.9755937894);
  // Millimetres are voxels times the spacing when it is the same along all axes.
  const Scores mm =
      segmentation_scores(p.data(), g.data(), shape, 1, {0.625, 0.625, 0.625}, EmptyPolicy::nan);
  check_scores(mm, 0.8455947979, 0.7324939253, 0.625 * 2.2360679775, 0.625 * 1.2048216204);
}

TEST_CASE("metrics: objects that touch the array's border have surface there") {
  const io::Extent3 shape{40, 36, 28};
  Mask p(40 * 36 * 28), g(40 * 36 * 28);
  add_ellipsoid(p, shape, {20.5, 17, 24}, {11, 11, 6});
  add_ellipsoid(g, shape, {20.5, 17, 24}, {11, 11, 7.5});
  const Scores scores = segmentation_scores(p.data(), g.data(), shape, 1, kVoxels, EmptyPolicy::nan);
  check_scores(scores, 0.9215416380, 0.8544990428, 1.4142135624, 0.4096909512);
  const Scores reverse = segmentation_scores(g.data(), p.data(), shape, 1, kVoxels, EmptyPolicy::nan);
  check_scores(reverse, 0.9215416380, 0.8544990428, 1.4142135624, 0.4724015974);
}

TEST_CASE("metrics: distances equal the definition on random masks, any spacing, 1 and 4 threads") {
  const int threads = thread_count();
  uint64_t seed = 1;
  for (const io::Extent3& shape : {io::Extent3{7, 9, 11}, io::Extent3{1, 16, 13}, io::Extent3{18, 1, 1}}) {
    for (const double share : {0.02, 0.4, 0.95}) {
      const RandomStream random{seed++, 0, 0};
      Mask p(static_cast<size_t>(io::voxel_count(shape))), g(p.size());
      for (size_t i = 0; i < p.size(); ++i) {
        p[i] = random.uniform(2 * i) < share;
        g[i] = random.uniform(2 * i + 1) < share;
      }
      p[p.size() / 2] = g[g.size() / 3] = 1;  // neither is empty
      for (const std::array<double, 3>& spacing : {kVoxels, std::array{2.5, 0.7, 1.3}}) {
        const auto [hd95, asd] = brute_force_hd95_asd(p, g, shape, spacing);
        set_thread_count(1);
        const Scores one = segmentation_scores(p.data(), g.data(), shape, 1, spacing, EmptyPolicy::nan);
        set_thread_count(4);
        const Scores four = segmentation_scores(p.data(), g.data(), shape, 1, spacing, EmptyPolicy::nan);
        set_thread_count(threads);
        check_close(one.hd95, hd95, 1e-13);
        check_close(one.asd, asd, 1e-13);
        CHECK(one.values() == four.values());
      }
    }
  }
}

TEST_CASE("metrics: one label of several") {
  const io::Extent3 shape{1, 2, 4};
  const Mask p{1, 1, 2, 0, 2, 2, 2, 0}, g{1, 2, 2, 0, 3, 3, 2, 0};
  const Scores one = segmentation_scores(p.data(), g.data(), shape, 1, kVoxels, EmptyPolicy::zero);
  const Scores two = segmentation_scores(p.data(), g.data(), shape, 2, kVoxels, EmptyPolicy::zero);
  CHECK(one.dice == 2.0 / 3);
  CHECK(one.jaccard == 0.5);
  CHECK(one.asd == 0.5);  // distances 0 and 1
  CHECK(two.dice == 4.0 / 7);
  CHECK(two.counts.true_positive == 2);
  CHECK(two.counts.false_positive == 2);
  CHECK(two.counts.false_negative == 1);
  CHECK(two.counts.true_negative == 3);
}

TEST_CASE("metrics: what is empty scores by the policy") {
  const io::Extent3 shape{3, 4, 12};
  const std::array<double, 3> spacing{1, 2, 0.5};  // diagonal: 3, 8, 6
  const Mask nothing(144, 0);
  Mask something(144, 0);
  something[70] = 1;
  const auto scores = [&](const Mask& p, const Mask& g, EmptyPolicy empty) {
    return segmentation_scores(p.data(), g.data(), shape, 1, spacing, empty);
  };
  for (const bool prediction_is_empty : {true, false}) {
    const Mask& p = prediction_is_empty ? nothing : something;
    const Mask& g = prediction_is_empty ? something : nothing;
    const Scores zero = scores(p, g, EmptyPolicy::zero);
    CHECK(zero.values() == std::array<double, kScores>{0, 0, 0, 0});
    CHECK(zero.counts.false_negative == (prediction_is_empty ? 1 : 0));
    CHECK(zero.counts.false_positive == (prediction_is_empty ? 0 : 1));
    const Scores nan = scores(p, g, EmptyPolicy::nan);
    CHECK(nan.dice == 0);
    CHECK(nan.jaccard == 0);
    CHECK(std::isnan(nan.hd95));
    CHECK(std::isnan(nan.asd));
    const Scores diagonal = scores(p, g, EmptyPolicy::diagonal);
    CHECK(diagonal.values() == std::array<double, kScores>{0, 0, std::sqrt(109.0), std::sqrt(109.0)});
  }
  for (const EmptyPolicy empty : {EmptyPolicy::zero, EmptyPolicy::nan, EmptyPolicy::diagonal}) {
    CHECK(scores(nothing, nothing, empty).values() == std::array<double, kScores>{1, 1, 0, 0});
    CHECK(scores(nothing, nothing, empty).counts.true_negative == 144);
    CHECK(scores(something, something, empty).values() == std::array<double, kScores>{1, 1, 0, 0});
  }
}

TEST_CASE("metrics: real left atria, shifted by (3, -2, 1) and with a ball cut out") {
  const char* folder = std::getenv("SEMIVOX_LA");
  if (folder == nullptr) {
    MESSAGE("skipped: SEMIVOX_LA is not set");
    return;
  }
  struct Expected {
    std::string name;
    int64_t predicted, expected, both;
    double dice, jaccard, hd95, asd, reverse_asd;
    double anisotropic_hd95, anisotropic_asd;  // with spacing 0.7, 1.1, 2.5
  };
  const std::vector<Expected> cases{
      {"06SR5RBREL16DQ6M8LWS", 140363, 154296, 124148, 0.842655408455197, 0.728093788670526, 3.74165738677394,
       2.14831744656891, 1.40981184561654, 4.61735855224608, 2.81480178709344},
      {"1D7CUD1955YZPGK8XHJX", 191633, 202317, 173879, 0.882746541439269, 0.790104102766834, 3.3166247903554,
       1.70940108323065, 1.37773037678969, 3.75366487582469, 2.3613720871928}};
  for (const Expected& expected : cases) {
    CAPTURE(expected.name);
    const io::LabelMap g =
        io::read_nifti_labels(std::string(folder) + "/labelsTr/" + expected.name + ".nii.gz", 2);
    const io::Extent3& s = g.shape;
    Mask p(g.voxels.size(), 0);
    for (int64_t i = 3; i < s[0]; ++i)
      for (int64_t j = 0; j + 2 < s[1]; ++j)
        for (int64_t k = 1; k < s[2]; ++k) {
          const int64_t a = i - s[0] / 2, b = j - s[1] / 2, c = k - 44;
          if (a * a + b * b + c * c < 15 * 15) continue;
          p[static_cast<size_t>((i * s[1] + j) * s[2] + k)] =
              g.voxels[static_cast<size_t>(((i - 3) * s[1] + j + 2) * s[2] + k - 1)];
        }
    constexpr double kTolerance = 1e-12;  // the order of the sums of about 20000 distances costs 2e-13
    const Scores scores = segmentation_scores(p.data(), g.voxels.data(), s, 1, kVoxels, EmptyPolicy::nan);
    CHECK(scores.counts.true_positive == expected.both);
    CHECK(scores.counts.false_positive == expected.predicted - expected.both);
    CHECK(scores.counts.false_negative == expected.expected - expected.both);
    check_close(scores.dice, expected.dice, kTolerance);
    check_close(scores.jaccard, expected.jaccard, kTolerance);
    check_close(scores.hd95, expected.hd95, kTolerance);
    check_close(scores.asd, expected.asd, kTolerance);
    const Scores reverse = segmentation_scores(g.voxels.data(), p.data(), s, 1, kVoxels, EmptyPolicy::nan);
    check_close(reverse.asd, expected.reverse_asd, kTolerance);
    const Scores mm = segmentation_scores(p.data(), g.voxels.data(), s, 1, {0.7, 1.1, 2.5}, EmptyPolicy::nan);
    check_close(mm.hd95, expected.anisotropic_hd95, kTolerance);
    check_close(mm.asd, expected.anisotropic_asd, kTolerance);
  }
}
