// Random numbers: Philox against its published known answers, and the moments of what is drawn from it.

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "engine/random.hpp"

using namespace semivox;

namespace {

void check_block(const PhiloxBlock& block, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  CHECK(block.word[0] == a);
  CHECK(block.word[1] == b);
  CHECK(block.word[2] == c);
  CHECK(block.word[3] == d);
}

}  // namespace

TEST_CASE("philox4x32-10 gives the known answers of its authors' library") {
  check_block(philox(0, 0, 0), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8);
  check_block(philox(~0ull, ~0ull, ~0ull), 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd);
  check_block(philox(0x299f31d0a4093822ull, 0x85a308d3243f6a88ull, 0x0370734413198a2eull), 0xd16cfe09,
              0x94fdcceb, 0x5001e420, 0x24126ea1);
}

TEST_CASE("unit_float lies strictly between 0 and 1") {
  CHECK(unit_float(0) > 0.0f);
  CHECK(unit_float(0xffffffffu) < 1.0f);
  CHECK(unit_float(0x80000000u) == doctest::Approx(0.5).epsilon(1e-6));
}

TEST_CASE("uniform numbers fill the interval evenly") {
  const RandomStream random{1337, 5, 2};
  constexpr int kCount = 1 << 20, kBins = 64;
  double sum = 0, square = 0, neighbours = 0, last = 0;
  std::vector<int> bins(kBins);
  for (int i = 0; i < kCount; ++i) {
    const double u = random.uniform(static_cast<uint64_t>(i));
    sum += u;
    square += u * u;
    neighbours += (u - 0.5) * (last - 0.5);
    last = u;
    ++bins[static_cast<size_t>(u * kBins)];
  }
  // Five standard deviations of each estimate.
  CHECK(std::abs(sum / kCount - 0.5) < 5 * 0.2887 / std::sqrt(kCount));
  CHECK(std::abs(square / kCount - 1.0 / 3) < 5 * 0.2981 / std::sqrt(kCount));
  CHECK(std::abs(neighbours / kCount) < 5 * (1.0 / 12) / std::sqrt(kCount));
  double chi_square = 0;
  for (const int n : bins) chi_square += (n - kCount / kBins) * (n - kCount / kBins) * double{kBins} / kCount;
  CHECK(chi_square < 63 + 5 * std::sqrt(2.0 * 63));
  CHECK(chi_square > 63 - 5 * std::sqrt(2.0 * 63));
}

TEST_CASE("normal numbers have the moments and the quantiles of N(0, 1)") {
  const RandomStream random{7, 0, 0};
  constexpr int kCount = 1 << 20;
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0, pairs = 0, last = 0;
  int below_one = 0, beyond_three = 0;
  for (int i = 0; i < kCount; ++i) {
    const double z = random.normal(static_cast<uint64_t>(i));
    m1 += z;
    m2 += z * z;
    m3 += z * z * z;
    m4 += z * z * z * z;
    pairs += z * last;
    last = z;
    below_one += z < 1;
    beyond_three += std::abs(z) > 3;
  }
  const double deviation = 5 / std::sqrt(kCount);
  CHECK(std::abs(m1 / kCount) < deviation);
  CHECK(std::abs(m2 / kCount - 1) < std::sqrt(2.0) * deviation);
  CHECK(std::abs(m3 / kCount) < std::sqrt(15.0) * deviation);
  CHECK(std::abs(m4 / kCount - 3) < std::sqrt(96.0) * deviation);
  CHECK(std::abs(pairs / kCount) < deviation);
  CHECK(std::abs(below_one / double{kCount} - 0.8413447) < 0.3654 * deviation);
  CHECK(std::abs(beyond_three / double{kCount} - 0.0026998) < 0.0519 * deviation);
}

TEST_CASE("integers reach every value below the bound evenly, and no other") {
  const RandomStream random{3, 1, 4};
  constexpr int kCount = 70000;
  std::vector<int> counts(7);
  for (int i = 0; i < kCount; ++i) {
    const int64_t value = random.integer(static_cast<uint64_t>(i), 7);
    REQUIRE(value >= 0);
    REQUIRE(value < 7);
    ++counts[static_cast<size_t>(value)];
  }
  for (const int n : counts) CHECK(std::abs(n - kCount / 7) < 5 * std::sqrt(kCount / 7.0));
  CHECK(random.integer(0, 1) == 0);
  const int64_t large = random.integer(1, (int64_t{1} << 32) - 1);
  CHECK(large >= 0);
  CHECK(large < (int64_t{1} << 32) - 1);
}

TEST_CASE("seed, step, stream and index each change the number") {
  std::set<uint32_t> words;
  for (uint64_t seed = 0; seed < 3; ++seed)
    for (uint64_t step = 0; step < 3; ++step)
      for (uint64_t stream = 0; stream < 3; ++stream)
        for (uint64_t index = 0; index < 3; ++index)
          words.insert(RandomStream{seed, step, stream}.block(index).word[0]);
  CHECK(words.size() == 81);
}

TEST_CASE("streams are handed out in call order and start anew with the iteration") {
  Random random(11, 4), again(11, 4);
  for (uint64_t i = 0; i < 3; ++i) {
    const RandomStream stream = random.next();
    CHECK(stream.seed == 11);
    CHECK(stream.step.now() == 4);
    CHECK(stream.stream == i);
    CHECK(again.next().uniform(9) == stream.uniform(9));
  }
}
