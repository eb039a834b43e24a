// The synthetic data set: reproducible, plausible, different from case to case, and a data set like any
// other.
#include "io/synth.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <vector>

#include "engine/parallel.hpp"
#include "io/case_cache.hpp"
#include "io/split.hpp"
#include "temporary_folder.hpp"

using namespace semivox;
using namespace semivox::io;

namespace {

constexpr SynthOptions kSmall{.cases = 6, .size = {40, 40, 28}, .seed = 7, .spacing = 2.5};

/// Share of the foreground that its largest face-connected part has.
double largest_part(const LabelMap& label) {
  std::vector<uint8_t> left = label.voxels;
  const Extent3& shape = label.shape;
  int64_t total = 0, largest = 0;
  for (int64_t start = 0; start < static_cast<int64_t>(left.size()); ++start) {
    if (left[start] == 0) continue;
    int64_t size = 0;
    std::vector<int64_t> stack{start};
    left[start] = 0;
    while (!stack.empty()) {
      const int64_t v = stack.back();
      stack.pop_back();
      ++size;
      const int64_t at[3] = {v / shape[2] / shape[1], v / shape[2] % shape[1], v % shape[2]};
      const int64_t step[3] = {shape[1] * shape[2], shape[2], 1};
      for (int a = 0; a < 3; ++a) {
        for (const int64_t next : {at[a] > 0 ? v - step[a] : -1, at[a] + 1 < shape[a] ? v + step[a] : -1}) {
          if (next < 0 || left[next] == 0) continue;
          left[next] = 0;
          stack.push_back(next);
        }
      }
    }
    total += size;
    largest = std::max(largest, size);
  }
  return static_cast<double>(largest) / static_cast<double>(total);
}

double overlap(const LabelMap& a, const LabelMap& b) {
  double both = 0, sum = 0;
  for (size_t i = 0; i < a.voxels.size(); ++i)
    both += a.voxels[i] & b.voxels[i], sum += a.voxels[i] + b.voxels[i];
  return 2 * both / sum;
}

}  // namespace

TEST_CASE("synth: the atrium is one piece of plausible size, and the cases differ") {
  std::vector<SynthCase> cases;
  std::vector<double> brightness;
  for (int64_t i = 0; i < 6; ++i) cases.push_back(synthesize_case(kSmall, i));
  for (const SynthCase& made : cases) {
    const Image image = decode(made.image);
    double foreground = 0, inside = 0, all = 0;
    for (size_t v = 0; v < image.voxels.size(); ++v) {
      foreground += made.label.voxels[v];
      inside += made.label.voxels[v] * static_cast<double>(image.voxels[v]);
      all += image.voxels[v];
      REQUIRE(image.voxels[v] >= 0);
    }
    const double fraction = foreground / static_cast<double>(image.voxels.size());
    CHECK(fraction > 0.01);
    CHECK(fraction < 0.2);
    CHECK(largest_part(made.label) > 0.97);
    brightness.push_back(inside / foreground);
    CHECK(brightness.back() >
          1.1 * all / static_cast<double>(image.voxels.size()));  // blood is brighter than the body
  }
  const auto [dark, bright] = std::minmax_element(brightness.begin(), brightness.end());
  CHECK(*bright > 1.5 * *dark);
  for (size_t a = 0; a < cases.size(); ++a) {
    for (size_t b = 0; b < a; ++b) {
      CHECK(overlap(cases[a].label, cases[b].label) > 0.1);  // a position prior exists
      CHECK(overlap(cases[a].label, cases[b].label) < 0.9);  // and does not suffice
    }
  }
}

TEST_CASE("synth: brightness alone does not separate the atrium") {
  // With the best threshold of each case, chosen with the label in hand, the overlap stays poor.
  for (int64_t i = 0; i < 4; ++i) {
    const SynthCase made = synthesize_case(kSmall, i);
    const Image image = decode(made.image);
    const float highest = *std::max_element(image.voxels.begin(), image.voxels.end());
    double best = 0;
    for (int step = 1; step < 40; ++step) {
      LabelMap guess = made.label;
      for (size_t v = 0; v < guess.voxels.size(); ++v)
        guess.voxels[v] = image.voxels[v] > highest * step / 40;
      best = std::max(best, overlap(guess, made.label));
    }
    CHECK(best < 0.65);
  }
}

TEST_CASE("synth: a pure function of seed and case") {
  const SynthCase one = synthesize_case(kSmall, 3), same = synthesize_case(kSmall, 3);
  CHECK(one.image.data == same.image.data);
  CHECK(one.label.voxels == same.label.voxels);
  SynthOptions other = kSmall;
  other.seed = 8;
  CHECK(synthesize_case(other, 3).label.voxels != one.label.voxels);
}

TEST_CASE("synth: the folder opens, and two runs write the same bytes whatever the threads") {
  const TemporaryFolder folder;
  const int threads = thread_count();
  set_thread_count(1);
  write_synthetic_dataset(folder / "one", kSmall);
  set_thread_count(2);
  write_synthetic_dataset(folder / "two", kSmall);
  set_thread_count(threads);
  const DatasetFolder set = open_dataset(folder / "one");
  for (const CaseFiles& files : set.cases) {
    std::string second = files.images.front();
    CHECK(read_bytes(second.replace(second.find("/one/"), 5, "/two/")) == read_bytes(files.images.front()));
  }
  const Split split = make_split(set, 2);
  CHECK(split.labeled.size() == 2);
  CHECK(split.unlabeled.size() == 2);
  CHECK(split.validation.size() == 2);
  CHECK(set.cases[split.validation[0]].id == "synth_004");
  const auto cases = load_cases(set, split.labeled, Labels::read, {}, Device{});
  CHECK(cases[0].image.dtype() == DType::i16);
  CHECK(cases[0].shape == kSmall.size);
  CHECK(cases[0].input_geometry.spacing == std::array<double, 3>{2.5, 2.5, 2.5});
  const Image made = decode(synthesize_case(kSmall, split.labeled[0]).image);
  CHECK(cases[0].image.to_doubles() == std::vector<double>(made.voxels.begin(), made.voxels.end()));

  CHECK(mentions(data_error([&] { write_synthetic_dataset(folder / "one", kSmall); }), "one",
                 "already holds a data set"));
}

TEST_CASE("synth: impossible options and folders") {
  const TemporaryFolder folder;
  SynthOptions options = kSmall;
  options.cases = 2;
  CHECK_THROWS_AS(write_synthetic_dataset(folder / "a", options), UsageError);
  options = kSmall;
  options.size[2] = 15;
  CHECK_THROWS_AS(write_synthetic_dataset(folder / "a", options), UsageError);
  options = kSmall;
  options.spacing = 0;
  CHECK_THROWS_AS(write_synthetic_dataset(folder / "a", options), UsageError);
  CHECK(folder.entries() == 0);
  write_bytes(folder / "file", "x");
  CHECK(mentions(data_error([&] { write_synthetic_dataset(folder / "file", kSmall); }), "file",
                 "cannot be created"));
}
