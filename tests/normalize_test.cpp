// Intensity normalisation: values, degenerate scans and words of the command line.
#include "io/normalize.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "engine/parallel.hpp"
#include "engine/random.hpp"
#include "temporary_folder.hpp"

using namespace semivox;
using namespace semivox::io;

namespace {

Image scan(std::vector<float> voxels) {
  const auto count = static_cast<int64_t>(voxels.size());
  return {{1, 1, count}, std::move(voxels), {}};
}

std::vector<float> normalized(std::vector<float> voxels, const std::string& word) {
  Image image = scan(std::move(voxels));
  normalize(image, parse_normalization(word), "file");
  return image.voxels;
}

std::string usage_error(const std::string& word) {
  try {
    parse_normalization(word);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("normalize: known values") {
  CHECK(normalized({1, 5, 3}, "none") == std::vector<float>{1, 5, 3});
  CHECK(normalized({1, 5, 3}, "minmax") == std::vector<float>{0, 1, 0.5f});
  CHECK(normalized({-2000, -500, 0, 100, 3000}, "window:-1000:1000") ==
        std::vector<float>{0, 0.25f, 0.5f, 0.55f, 1});
  const std::vector<float> z =
      normalized({2, 4, 4, 4, 5, 5, 7, 9}, "zscore");  // mean 5, population deviation 2
  CHECK(z == std::vector<float>{-1.5f, -0.5f, -0.5f, -0.5f, 0, 0, 1, 2});
}

TEST_CASE("normalize: constant scans become 0") {
  CHECK(normalized({7, 7, 7}, "zscore") == std::vector<float>{0, 0, 0});
  CHECK(normalized(std::vector<float>(7, 0.1f), "zscore") == std::vector<float>(7, 0.0f));
  CHECK(normalized({7, 7, 7}, "minmax") == std::vector<float>{0, 0, 0});
}

TEST_CASE("normalize: large scans with an offset, on one and two threads") {
  std::vector<float> voxels(300000);
  for (size_t i = 0; i < voxels.size(); ++i) voxels[i] = 30000 + 5 * RandomStream{1, 0, 0}.normal(i);
  const int threads = thread_count();
  set_thread_count(1);
  const std::vector<float> one = normalized(voxels, "zscore");
  set_thread_count(2);
  CHECK(normalized(voxels, "zscore") == one);
  set_thread_count(threads);
  double mean = 0, square = 0;
  for (const float v : one) mean += v, square += static_cast<double>(v) * v;
  mean /= static_cast<double>(one.size());
  CHECK(std::abs(mean) < 1e-6);
  CHECK(std::abs(square / static_cast<double>(one.size()) - mean * mean - 1) < 1e-6);
}

TEST_CASE("normalize: NaN and infinity") {
  for (const char* word : {"none", "zscore", "minmax", "window:0:1"}) {
    for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
      Image image = scan({0, 1, bad, 2});
      CHECK(mentions(data_error([&] { normalize(image, parse_normalization(word), "scan.nii.gz"); }),
                     "scan.nii.gz"));
    }
  }
}

TEST_CASE("normalize: words") {
  for (const std::string word : {"none", "zscore", "zscore_positive", "minmax", "window:-100:240.5"}) {
    CHECK(name_of(parse_normalization(word)) == word);
  }
  for (const std::string word :
       {"", "z-score", "window", "window:1", "window:1:", "window:2:1", "window:1:2x", "window:1,2"}) {
    CHECK(mentions(usage_error(word), "'" + word + "'", "window:LOW:HIGH"));
  }
  CHECK(normalization_of_channel("noNorm").kind == Normalization::Kind::none);
  CHECK(normalization_of_channel("rescale_to_0_1").kind == Normalization::Kind::minmax);
  CHECK(normalization_of_channel("MRI").kind == Normalization::Kind::zscore);
  CHECK_THROWS_AS(normalization_of_channel("CT"), UsageError);
  CHECK(name_of(normalization_of_channel("R")) == "window:0:255");
  CHECK(name_of(normalization_of_channel("zscore_positive")) == "zscore_positive");
  CHECK(names_of(parse_normalizations("zscore,window:0:255")) == "zscore,window:0:255");
  CHECK(names_of({}) == "none");
  CHECK_THROWS_AS(parse_normalizations(""), UsageError);
  CHECK_THROWS_AS(parse_normalizations("zscore,,none"), UsageError);
}

TEST_CASE("normalize: statistics of the positive voxels") {
  Image image{{1, 1, 5}, {0, 0, 2, 4, -1}, {}};
  normalize(image, parse_normalization("zscore_positive"), "file");  // mean 3, deviation 1
  CHECK(image.voxels == std::vector<float>{-3, -3, -1, 1, -4});
  Image dark{{1, 1, 2}, {0, -1}, {}};
  normalize(dark, parse_normalization("zscore_positive"), "file");
  CHECK(dark.voxels == std::vector<float>{0, -1});
}
