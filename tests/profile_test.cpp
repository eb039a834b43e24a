// Named ranges: the innermost name, and the table of own times of nested ranges.

#include <doctest/doctest.h>

#include <map>
#include <sstream>
#include <string>

#include "engine/profile.hpp"

using namespace semivox;

namespace {

void spin(double seconds) {
  const double end = now_seconds() + seconds;
  while (now_seconds() < end) {
  }
}

struct Row {
  int64_t calls;
  double milliseconds, mean, share;
};

/// The table by range name.
std::map<std::string, Row> rows_of(const std::string& table) {
  std::istringstream lines(table);
  std::string line;
  std::getline(lines, line);  // the header
  std::map<std::string, Row> rows;
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::string name;
    Row row{};
    words >> name >> row.calls >> row.milliseconds >> row.mean >> row.share;
    rows[name] = row;
  }
  return rows;
}

}  // namespace

TEST_CASE("the innermost open range is known") {
  CHECK(std::string(current_range()) == "(no range)");
  {
    const Range outer("outer");
    {
      const Range inner("inner");
      CHECK(std::string(current_range()) == "inner");
    }
    CHECK(std::string(current_range()) == "outer");
  }
  CHECK(std::string(current_range()) == "(no range)");
}

TEST_CASE("a range's time is its own: without the ranges inside it, also those inside these") {
  enable_profile(true);
  double start = now_seconds();
  {
    const Range outer("outer");
    spin(0.004);
    for (int i = 0; i < 2; ++i) {
      const Range middle("middle");
      spin(0.006);
      const Range inner("inner");
      spin(0.012);
    }
    {
      const Range other("other");
      spin(0.002);
    }
  }
  const double elapsed = (now_seconds() - start) * 1e3;
  auto rows = rows_of(profile_table());
  enable_profile(false);
  REQUIRE(rows.size() == 4);
  CHECK(rows["outer"].calls == 1);
  CHECK(rows["middle"].calls == 2);
  CHECK(rows["inner"].calls == 2);
  // A busy machine can only add time; the sum shows that nothing is counted twice.
  CHECK(rows["outer"].milliseconds >= 4.0 - 0.01);
  CHECK(rows["middle"].milliseconds >= 12.0 - 0.01);
  CHECK(rows["inner"].milliseconds >= 24.0 - 0.01);
  CHECK(rows["other"].milliseconds >= 2.0 - 0.01);
  double total = 0, share = 0;
  for (const auto& [name, row] : rows) {
    total += row.milliseconds;
    share += row.share;
    CHECK(row.mean == doctest::Approx(row.milliseconds / static_cast<double>(row.calls)).epsilon(1e-2));
  }
  CHECK(total <= elapsed + 0.02);
  CHECK(total >= elapsed - 1.0);
  CHECK(share == doctest::Approx(100).epsilon(0.01));
}

TEST_CASE("a range that was open when the table was switched on is not in it") {
  {
    const Range outer("outer");
    enable_profile(true);
    const Range inner("inner");
  }
  auto rows = rows_of(profile_table());
  enable_profile(false);
  CHECK(rows.count("outer") == 0);
  CHECK(rows.count("inner") == 1);
}
