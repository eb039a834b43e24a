// The batch sampler: epochs, streams, small sets, and that a batch depends on nothing but seed and iteration.
#include "io/sampler.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "engine/error.hpp"

using namespace semivox;
using semivox::io::BatchSampler;
using semivox::io::Order;
using List = std::vector<int64_t>;

namespace {

List range(int64_t begin, int64_t count) {
  List list(count);
  std::iota(list.begin(), list.end(), begin);
  return list;
}

}  // namespace

TEST_CASE("sampler: an epoch is a permutation of the labelled cases without its tail") {
  const BatchSampler sampler(range(0, 7), 2, range(100, 10), 3, 1337, Order::shuffled);
  CHECK(sampler.iterations_per_epoch() == 3);
  std::set<int64_t> dropped;
  for (int64_t epoch = 0; epoch < 50; ++epoch) {
    std::set<int64_t> labeled;
    List unlabeled;
    for (int64_t i = 0; i < 3; ++i) {
      const List batch = sampler.batch(epoch * 3 + i);
      REQUIRE(batch.size() == 5);
      labeled.insert(batch.begin(), batch.begin() + 2);
      unlabeled.insert(unlabeled.end(), batch.begin() + 2, batch.end());
    }
    CHECK(labeled.size() == 6);
    CHECK(*labeled.rbegin() < 7);
    for (int64_t i = 0; i < 7; ++i) {
      if (!labeled.contains(i)) dropped.insert(i);
    }
    CHECK(std::set(unlabeled.begin(), unlabeled.end()).size() == 9);  // within one permutation of the ten
    CHECK(*std::min_element(unlabeled.begin(), unlabeled.end()) >= 100);
  }
  CHECK(dropped.size() == 7);  // another case is left out every time
}

TEST_CASE("sampler: unlabelled chunks straddle permutations") {
  const BatchSampler sampler(range(0, 20), 1, range(100, 5), 2, 7, Order::shuffled);
  List stream;
  for (int64_t i = 0; i < 20; ++i) {
    const List batch = sampler.batch(i);
    stream.insert(stream.end(), batch.begin() + 1, batch.end());
  }
  std::set<List> passes;
  for (int64_t pass = 0; pass < 8; ++pass) {
    const List cases(stream.begin() + pass * 5, stream.begin() + pass * 5 + 5);
    CHECK(std::set(cases.begin(), cases.end()).size() == 5);
    passes.insert(cases);
  }
  CHECK(passes.size() > 4);  // different permutations
}

TEST_CASE("sampler: a pure function of seed and iteration") {
  const BatchSampler one(range(0, 8), 2, range(8, 62), 2, 1, Order::shuffled);
  const BatchSampler same(range(0, 8), 2, range(8, 62), 2, 1, Order::shuffled);
  const BatchSampler other(range(0, 8), 2, range(8, 62), 2, 2, Order::shuffled);
  int differences = 0;
  for (int64_t i = 99; i >= 0; --i) {
    CHECK(one.batch(i) == same.batch(i));
    differences += one.batch(i) != other.batch(i);
  }
  CHECK(differences > 90);
}

TEST_CASE("sampler: every ordered pair is equally likely") {
  const BatchSampler sampler(range(0, 4), 2, {}, 0, 3, Order::shuffled);
  std::map<List, int> counts;
  constexpr int kDraws = 24000;
  for (int64_t i = 0; i < kDraws; ++i) ++counts[sampler.batch(i)];
  REQUIRE(counts.size() == 12);
  double chi_squared = 0;
  for (const auto& [pair, count] : counts) {
    const double expected = kDraws / 12.0;
    chi_squared += (count - expected) * (count - expected) / expected;
  }
  CHECK(chi_squared < 31.3);  // 11 degrees of freedom, p = 0.001
}

TEST_CASE("sampler: fixed order") {
  const BatchSampler sampler({5, 3, 9}, 1, {20, 10}, 2, 1337, Order::fixed);
  CHECK(sampler.batch(0) == List{5, 20, 10});
  CHECK(sampler.batch(1) == List{3, 20, 10});
  CHECK(sampler.batch(2) == List{9, 20, 10});
  CHECK(sampler.batch(3) == List{5, 20, 10});
  const BatchSampler straddling({5, 3}, 1, {20, 10, 30}, 2, 1337, Order::fixed);
  CHECK(straddling.batch(1) == List{3, 30, 20});
  CHECK(straddling.batch(2) == List{5, 20, 10});  // the next epoch starts its streams anew
}

TEST_CASE("sampler: fewer labelled cases than a batch takes") {
  const BatchSampler fixed({1, 2, 3}, 4, {10, 11, 12}, 2, 5, Order::fixed);
  CHECK(fixed.batch(0) == List{1, 2, 3, 1, 10, 11});
  CHECK(fixed.batch(1) == List{2, 3, 1, 2, 12, 10});
  CHECK(fixed.iterations_per_epoch() == 1);
  const BatchSampler shuffled({1, 2, 3}, 4, {}, 0, 5, Order::shuffled);
  std::map<int64_t, int> counts;
  for (int64_t i = 0; i < 3; ++i) {
    for (const int64_t index : shuffled.batch(i)) ++counts[index];
  }
  CHECK(counts[1] == 4);
  CHECK(counts[2] == 4);
  CHECK(counts[3] == 4);
  const BatchSampler single({42}, 2, {}, 0, 5, Order::shuffled);
  CHECK(single.batch(17) == List{42, 42});
}

TEST_CASE("sampler: empty streams") {
  CHECK_THROWS_AS(BatchSampler({}, 2, {1}, 2, 1, Order::shuffled), UsageError);
  CHECK_THROWS_AS(BatchSampler({1}, 2, {}, 2, 1, Order::shuffled), UsageError);
  CHECK_THROWS_AS(BatchSampler({1}, 0, {1}, 2, 1, Order::shuffled), UsageError);
  CHECK_THROWS_AS(BatchSampler({1}, 1, {1}, -1, 1, Order::shuffled), UsageError);
}
