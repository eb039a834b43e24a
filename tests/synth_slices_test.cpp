// The synthetic set for 2D networks: reproducible, plausible, different from case to case.
#include "io/synth_slices.hpp"

#include <doctest/doctest.h>

#include <array>

#include "engine/parallel.hpp"
#include "io/case_reader.hpp"
#include "io/normalize.hpp"
#include "temporary_folder.hpp"

using namespace semivox;
using namespace semivox::io;

namespace {

constexpr SynthSlicesOptions kSmall{.cases = 6, .size = {48, 48, 5}, .spacing = 3};

std::array<int64_t, 4> counts(const LabelMap& label) {
  std::array<int64_t, 4> counts{};
  for (const uint8_t v : label.voxels) ++counts[v];
  return counts;
}

}  // namespace

TEST_CASE("synth slices: a pure function of seed and index") {
  const SynthCase one = synthesize_slices(kSmall, 3), again = synthesize_slices(kSmall, 3);
  CHECK(one.image.data == again.image.data);
  CHECK(one.label.voxels == again.label.voxels);
  SynthSlicesOptions more = kSmall;
  more.cases = 40;
  CHECK(synthesize_slices(more, 3).image.data == one.image.data);
  more.seed = 8;
  CHECK(synthesize_slices(more, 3).image.data != one.image.data);
  CHECK(synthesize_slices(kSmall, 4).label.voxels != one.label.voxels);
}

TEST_CASE("synth slices: every case holds every class, the right ventricle not to the last slice") {
  for (int64_t index = 0; index < 24; ++index) {
    INFO("case ", index);
    const SynthCase made = synthesize_slices(kSmall, index);
    const auto all = counts(made.label);
    const auto voxels = static_cast<double>(voxel_count(kSmall.size));
    for (int c = 1; c < 4; ++c) {
      CHECK(static_cast<double>(all[c]) > 0.005 * voxels);
      CHECK(static_cast<double>(all[c]) < 0.25 * voxels);
    }
    std::array<int64_t, 2> left{};  // of the first and last slice
    for (int64_t v = 0; v < 48 * 48; ++v) {
      left[0] += made.label.voxels[v * 5] == 3;
      left[1] += made.label.voxels[v * 5 + 4] == 3;
    }
    CHECK(left[1] < left[0]);
    // The muscle is darker than the blood beside it.
    const Image image = decode(made.image);
    std::array<double, 4> sums{};
    for (size_t v = 0; v < image.voxels.size(); ++v) sums[made.label.voxels[v]] += image.voxels[v];
    CHECK(sums[2] / static_cast<double>(all[2]) < sums[3] / static_cast<double>(all[3]));
  }
}

TEST_CASE("synth slices: fewer classes leave the first ones out") {
  SynthSlicesOptions options = kSmall;
  const LabelMap four = synthesize_slices(options, 0).label;
  options.classes = 3;
  const LabelMap three = synthesize_slices(options, 0).label;
  options.classes = 2;
  const LabelMap two = synthesize_slices(options, 0).label;
  for (size_t v = 0; v < four.voxels.size(); ++v) {
    CHECK(three.voxels[v] == std::max(four.voxels[v] - 1, 0));
    CHECK(two.voxels[v] == std::max(four.voxels[v] - 2, 0));
  }
}

TEST_CASE("synth slices: a data set like any other") {
  const TemporaryFolder folder;
  write_synthetic_slices(folder / "set", kSmall);
  const DatasetFolder set = open_dataset(folder / "set");
  CHECK(set.cases.size() == 6);
  CHECK(set.training.size() == 4);
  CHECK(set.validation.size() == 2);
  CHECK(set.classes() == 4);
  CHECK(normalization_of_channel(set.channels.front()).kind == Normalization::Kind::minmax);
  CHECK(count_slices(set, set.training, SliceAxis::automatic)[0] == 5);
  CHECK(mentions(data_error([&] { write_synthetic_slices(folder / "set", kSmall); }),
                 "already holds a data set"));
  for (const auto& [size, classes, cases] : {std::tuple{Extent3{48, 48, 5}, 5, 6},
                                             {Extent3{48, 48, 5}, 1, 6},
                                             {Extent3{16, 48, 5}, 4, 6},
                                             {Extent3{48, 48, 5}, 4, 2}}) {
    const SynthSlicesOptions wrong{.cases = cases, .size = size, .classes = classes};
    CHECK_THROWS_AS(write_synthetic_slices(folder / "wrong", wrong), UsageError);
  }
}
