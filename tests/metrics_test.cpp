// Scores against numbers made with SciPy by MedPy's definitions, and every empty policy.
#include "methods/metrics.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/error.hpp"
#include "engine/parallel.hpp"
#include "engine/random.hpp"

#include "io/nifti.hpp"

using namespace semivox;

namespace {

constexpr std::array<double, 3> kVoxels{1, 1, 1};

using Mask = std::vector<uint8_t>;

size_t index_of(const io::Extent3& shape, int64_t x, int64_t y, int64_t z) {
  return static_cast<size_t>((x * shape[1] + y) * shape[2] + z);
}

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

nlohmann::json read_goldens() {
  return nlohmann::json::parse(std::ifstream(SEMIVOX_TEST_DATA "/metrics.json"));
}

/// u(i, number) of vnet_reference.py: an integer hash as a number in [-1, 1).
double noise(uint32_t i, uint32_t number) {
  const uint32_t state = (i + 1) * 747796405u + (number + 1) * 2891336453u;
  const uint32_t word = ((state >> ((state >> 28) + 4)) ^ state) * 277803737u;
  return 2.0 * ((word >> 22) ^ word) / 4294967296.0 - 1.0;
}

/// Union of the parts: see "parts" in metrics.json.
Mask paint(const nlohmann::json& parts, const io::Extent3& shape) {
  Mask mask(static_cast<size_t>(io::voxel_count(shape)), 0);
  for (const nlohmann::json& part : parts) {
    const std::string kind = part[0];
    if (kind == "ellipsoid") {
      add_ellipsoid(mask, shape, part[1], part[2]);
    } else if (kind == "speckle") {
      for (size_t v = 0; v < mask.size(); ++v) {
        if (noise(static_cast<uint32_t>(v), part[1]) > part[2].get<double>()) mask[v] = 1;
      }
    } else {
      REQUIRE((kind == "box" || kind == "voxel"));
      const io::Extent3 first = part[1], last = kind == "box" ? part[2] : part[1];
      for (int64_t x = first[0]; x <= last[0]; ++x)
        for (int64_t y = first[1]; y <= last[1]; ++y)
          for (int64_t z = first[2]; z <= last[2]; ++z) mask[index_of(shape, x, y, z)] = 1;
    }
  }
  return mask;
}

/// "moved": by +3 along axis 0, zeros coming in. "eroded", "dilated": once by the 6-neighbour cross, zeros
/// outside.
Mask changed(const Mask& mask, const io::Extent3& s, const std::string& change) {
  Mask result(mask.size(), 0);
  if (change == "moved") {
    const auto step = static_cast<std::ptrdiff_t>(3 * s[1] * s[2]);
    std::copy(mask.begin(), mask.end() - step, result.begin() + step);
    return result;
  }
  REQUIRE((change == "eroded" || change == "dilated"));
  const auto at = [&](int64_t x, int64_t y, int64_t z) {
    const bool outside = x < 0 || y < 0 || z < 0 || x >= s[0] || y >= s[1] || z >= s[2];
    return outside ? 0 : static_cast<int>(mask[index_of(s, x, y, z)]);
  };
  for (int64_t x = 0; x < s[0]; ++x)
    for (int64_t y = 0; y < s[1]; ++y)
      for (int64_t z = 0; z < s[2]; ++z) {
        const int count = at(x, y, z) + at(x - 1, y, z) + at(x + 1, y, z) + at(x, y - 1, z) +
                          at(x, y + 1, z) + at(x, y, z - 1) + at(x, y, z + 1);
        result[index_of(s, x, y, z)] = change == "eroded" ? count == 7 : count > 0;
      }
  return result;
}

/// Both directions against one entry of metrics.json, and in mm on an isotropic grid.
void check_golden(const Mask& p, const Mask& g, const io::Extent3& shape, const nlohmann::json& expected) {
  const auto tolerance = [](double value) { return 1e-12 * std::max(1.0, value); };  // order of the sums
  const Scores scores = segmentation_scores(p.data(), g.data(), shape, 1, kVoxels, EmptyPolicy::nan);
  const Scores reverse = segmentation_scores(g.data(), p.data(), shape, 1, kVoxels, EmptyPolicy::nan);
  const Scores mm =
      segmentation_scores(p.data(), g.data(), shape, 1, {0.625, 0.625, 0.625}, EmptyPolicy::nan);
  const int64_t predicted = expected["voxels"][0], reference = expected["voxels"][1],
                both = expected["voxels"][2];
  CHECK(scores.counts.true_positive == both);
  CHECK(scores.counts.false_positive == predicted - both);
  CHECK(scores.counts.false_negative == reference - both);
  CHECK(scores.counts.true_negative == io::voxel_count(shape) - predicted - reference + both);
  const double hd95 = expected["hd95"], asd = expected["asd"], asd_reverse = expected["asd_reverse"];
  CHECK(scores.dice == expected["dc"].get<double>());
  CHECK(scores.jaccard == expected["jc"].get<double>());
  check_close(scores.hd95, hd95, tolerance(hd95));
  check_close(scores.asd, asd, tolerance(asd));
  check_close(reverse.hd95, hd95, tolerance(hd95));
  check_close(reverse.asd, asd_reverse, tolerance(asd_reverse));
  check_close(mm.hd95, 0.625 * hd95, tolerance(hd95));
  check_close(mm.asd, 0.625 * asd, tolerance(asd));
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

TEST_CASE("metrics: painted masks equal the reference") {
  const nlohmann::json goldens = read_goldens();
  const io::Extent3 shape = goldens["grid"];
  REQUIRE(goldens["painted_cases"].size() >= 10);
  for (const nlohmann::json& expected : goldens["painted_cases"]) {
    CAPTURE(expected["name"].get<std::string>());
    check_golden(paint(expected["prediction"], shape), paint(expected["reference"], shape), shape, expected);
  }
}

TEST_CASE("metrics: real left atria, moved, eroded and dilated, equal the reference") {
  const char* folder = std::getenv("SEMIVOX_LA");
  if (folder == nullptr) {
    MESSAGE("skipped: SEMIVOX_LA is not set");
    return;
  }
  const nlohmann::json goldens = read_goldens();
  for (const nlohmann::json& expected : goldens["real_cases"]) {
    const std::string name = expected["case"];
    const std::string change = expected["prediction"];
    CAPTURE(name);
    CAPTURE(change);
    const io::LabelMap reference = io::read_nifti_labels(text(folder, "/labelsTr/", name, ".nii.gz"), 2);
    REQUIRE(reference.shape == expected["shape"].get<io::Extent3>());
    check_golden(changed(reference.voxels, reference.shape, change), reference.voxels, reference.shape,
                 expected);
  }
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

TEST_CASE("metrics: a real left atrium on an anisotropic grid") {
  const char* folder = std::getenv("SEMIVOX_LA");
  if (folder == nullptr) {
    MESSAGE("skipped: SEMIVOX_LA is not set");
    return;
  }
  // The prediction is the reference shifted by (3, -2, 1), with a ball cut out. SciPy, as make_metrics.py but
  // with sampling = (0.7, 1.1, 2.5), gives these numbers.
  const io::LabelMap g = io::read_nifti_labels(text(folder, "/labelsTr/06SR5RBREL16DQ6M8LWS.nii.gz"), 2);
  const io::Extent3& s = g.shape;
  Mask p(g.voxels.size(), 0);
  for (int64_t x = 3; x < s[0]; ++x)
    for (int64_t y = 0; y + 2 < s[1]; ++y)
      for (int64_t z = 1; z < s[2]; ++z) {
        const int64_t a = x - s[0] / 2, b = y - s[1] / 2, c = z - 44;
        if (a * a + b * b + c * c < 15 * 15) continue;
        p[index_of(s, x, y, z)] = g.voxels[index_of(s, x - 3, y + 2, z - 1)];
      }
  const Scores scores =
      segmentation_scores(p.data(), g.voxels.data(), s, 1, {0.7, 1.1, 2.5}, EmptyPolicy::nan);
  check_close(scores.hd95, 4.61735855224608, 1e-12);
  check_close(scores.asd, 2.81480178709344, 1e-12);
}
