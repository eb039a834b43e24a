// Preprocessing of Pancreas-CT and BraTS against NumPy, SciPy and scikit-image
// (tests/goldens/make_prepare.py).
#include "io/prepare.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "io/bspline.hpp"
#include "temporary_folder.hpp"

using namespace semivox;
using namespace semivox::io;

namespace {

Image scan(const Extent3& shape, const std::array<double, 3>& spacing) {
  Image image{shape, {}, {}};
  image.geometry.spacing = spacing;
  image.geometry.known = true;
  for (int64_t i = 0; i < shape[0]; ++i) {
    for (int64_t j = 0; j < shape[1]; ++j) {
      for (int64_t k = 0; k < shape[2]; ++k) {
        const auto x = static_cast<double>(i), y = static_cast<double>(j), z = static_cast<double>(k);
        image.voxels.push_back(static_cast<float>(
            std::nearbyint(200 * std::sin(0.31 * x + 0.17 * y) * std::cos(0.23 * z) + 40 + 3 * z)));
      }
    }
  }
  return image;
}

LabelMap box(const Extent3& shape, const Extent3& low, const Extent3& high, uint8_t value) {
  LabelMap label{shape, std::vector<uint8_t>(static_cast<size_t>(voxel_count(shape))), {}};
  for (int64_t i = low[0]; i < high[0]; ++i) {
    for (int64_t j = low[1]; j < high[1]; ++j) {
      for (int64_t k = low[2]; k < high[2]; ++k) label.voxels[(i * shape[1] + j) * shape[2] + k] = value;
    }
  }
  return label;
}

struct Golden {
  Extent3 shape;
  double mean, mean_square;
  std::array<double, 3> values;  // of the first voxel, one inside, the last voxel
  int64_t label;
};

void check(const PreparedCase& prepared, const Golden& golden) {
  const Extent3& n = prepared.image.shape;
  REQUIRE(n == golden.shape);
  CHECK(prepared.label.shape == n);
  const std::vector<float>& v = prepared.image.voxels;
  double sum = 0, squares = 0;
  for (const float value : v) {
    sum += value;
    squares += static_cast<double>(value) * value;
  }
  const auto count = static_cast<double>(v.size());
  // Stored as float: 2^-24 relative in every voxel.
  CHECK(std::abs(sum / count - golden.mean) < 1e-6);
  CHECK(std::abs(squares / count - golden.mean_square) < 2e-6);
  CHECK(std::abs(v.front() - golden.values[0]) < 2e-6);
  CHECK(std::abs(v[((n[0] / 2) * n[1] + n[1] / 3) * n[2] + n[2] / 2] - golden.values[1]) < 2e-6);
  CHECK(std::abs(v.back() - golden.values[2]) < 2e-6);
  CHECK(std::accumulate(prepared.label.voxels.begin(), prepared.label.voxels.end(), int64_t{0}) ==
        golden.label);
}

}  // namespace

TEST_CASE("prepare: a cubic spline passes through its samples and reproduces cubics") {
  const Extent3 shape{9, 7, 5};
  const Image image = scan(shape, {1, 1, 1});
  const std::vector<float> same = resample_cubic(image.voxels, shape, shape, {1, 1, 1});
  for (size_t i = 0; i < same.size(); ++i) CHECK(std::abs(same[i] - image.voxels[i]) < 1e-4);
  // Far from the mirrored ends a straight line stays one.
  std::vector<float> line(41);
  std::iota(line.begin(), line.end(), 0.0f);
  const std::vector<float> finer = resample_cubic(line, {1, 1, 41}, {1, 1, 81}, {1, 1, 0.5});
  for (int i = 30; i < 50; ++i) CHECK(std::abs(finer[i] - 0.5 * i) < 1e-5);
  CHECK(resample_cubic({3.0f}, {1, 1, 1}, {1, 1, 2}, {1, 1, 0.5}) == std::vector<float>{3, 3});
}

TEST_CASE("prepare: Pancreas-CT") {
  const Extent3 shape{150, 160, 20};
  const LabelMap label = box(shape, {60, 70, 6}, {90, 81, 14}, 1);
  const Image image = scan(shape, {0.8125, 0.8125, 1.25});
  check(prepare_pancreas(image, label, PancreasPipeline::mc_net, "scan"),
        {{121, 130, 25}, 0, 1, {-0.2796308, -0.5265784, 0.6123416}, 2160});
  check(prepare_pancreas(image, label, PancreasPipeline::coranet, "scan"),
        {{96, 96, 96}, 0.080470039, 0.050107789, {0.8650000, 0, 0}, 1296});
  check(prepare_pancreas(image, label, PancreasPipeline::rcps, "scan"),
        {{121, 130, 25}, 0.485013072, 0.300941596, {0.4125000, 0.3502012, 0.6377071}, 2160});
  check(prepare_pancreas(scan(shape, {0.75, 0.75, 2.5}), label, PancreasPipeline::rcps, "scan"),
        {{112, 120, 50}, 0.481485857, 0.296885963, {0.4125000, 0.2519444, 0.3125000}, 3672});
  // The last slice of thick ones lies more than half a voxel outside and is 0 HU.
  check(prepare_pancreas(scan(shape, {0.75, 0.75, 2.5}), label, PancreasPipeline::mc_net, "scan"),
        {{112, 120, 50}, 0, 1, {-0.2676841, -0.9034526, -0.6552922}, 3680});

  const LabelMap empty = box(shape, {0, 0, 0}, {0, 0, 0}, 1);
  CHECK(mentions(data_error([&] { prepare_pancreas(image, empty, PancreasPipeline::mc_net, "scan.nii"); }),
                 "scan.nii", "no foreground"));
  const LabelMap other = box({5, 5, 5}, {0, 0, 0}, {1, 1, 1}, 1);
  CHECK(mentions(data_error([&] { prepare_pancreas(image, other, PancreasPipeline::coranet, "scan.nii"); }),
                 "scan.nii", "150x160x20", "5x5x5"));
  Image nowhere = image;
  nowhere.geometry.known = false;
  CHECK(mentions(data_error([&] { prepare_pancreas(nowhere, label, PancreasPipeline::mc_net, "scan.h5"); }),
                 "scan.h5", "spacing"));
}

TEST_CASE("prepare: BraTS") {
  const Extent3 shape{40, 44, 36}, inner{28, 31, 26};
  const Image brain = scan(inner, {1, 1, 1});
  std::vector<int16_t> voxels(static_cast<size_t>(voxel_count(shape)), 0);
  for (int64_t i = 0; i < inner[0]; ++i) {
    for (int64_t j = 0; j < inner[1]; ++j) {
      for (int64_t k = 0; k < inner[2]; ++k) {
        const float value = brain.voxels[(i * inner[1] + j) * inner[2] + k];
        voxels[((i + 5) * shape[1] + j + 6) * shape[2] + k + 4] = static_cast<int16_t>(std::max(value, 0.0f));
      }
    }
  }
  StoredImage stored{.shape = shape, .type = StoredType::i16, .data = {}, .geometry = {}};
  stored.data.resize(voxels.size() * sizeof(int16_t));
  std::memcpy(stored.data.data(), voxels.data(), stored.data.size());
  const LabelMap label = box(shape, {10, 12, 8}, {20, 22, 18}, 4);
  check(prepare_brats(stored, label, "head"),
        {{27, 30, 25}, -0.385131532, 1.407337488, {-1.0963239, 0.7921577, 0.7498782}, 1000});

  Image floats{shape, {}, {}};
  for (const int16_t v : voxels) floats.voxels.push_back(static_cast<float>(v) * 0.37f);
  check(prepare_brats(store(floats), label, "head"),
        {{27, 30, 25}, -0.385139319, 1.407363342, {-1.0963420, 0.7921912, 0.7499107}, 1000});

  CHECK(prepare_brats(stored, {}, "head").label.voxels.empty());
  const StoredImage black = store({shape, std::vector<float>(voxels.size(), 0.0f), {}});
  CHECK(mentions(data_error([&] { prepare_brats(black, {}, "head.nii"); }), "head.nii", "no voxel > 0"));
}
