// The log of a run: numbers in full precision, and what a continued run keeps of it.

#include "methods/run_log.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "tests/temporary_folder.hpp"

using namespace semivox;

namespace {

void write_iterations(const std::string& path, int64_t first, int64_t last) {
  RunLog log(path, first);
  for (int64_t t = first; t < last; ++t) log.write(t, "train", {{"loss", 1.0 / static_cast<double>(t + 3)}});
}

}  // namespace

TEST_CASE("run log: numbers read back equal, in the order given; what is no number is null") {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  const std::vector<double> values{0.1, 1.0 / 3, 6.02214076e23, 5e-324, -0.0, 123456789.0, std::acos(-1.0)};
  {
    RunLog log(path, 0);
    std::vector<std::pair<std::string, double>> named;
    for (size_t i = 0; i < values.size(); ++i) named.emplace_back(text("v", i), values[i]);
    log.write(0, "pretrain", named);
    log.write(1, "selftrain", {{"loss", std::nan("")}, {"other", std::numeric_limits<double>::infinity()}});
  }
  const std::string content = read_bytes(path);
  const size_t end = content.find('\n');
  const auto first = nlohmann::ordered_json::parse(content.substr(0, end));
  CHECK(first["iteration"] == 0);
  CHECK(first["phase"] == "pretrain");
  CHECK(std::next(first.begin(), 2).key() == "v0");
  for (size_t i = 0; i < values.size(); ++i) {
    CHECK(first[text("v", i)].get<double>() == values[i]);
  }
  const auto second = nlohmann::json::parse(content.substr(end + 1));
  CHECK(second["loss"].is_null());
  CHECK(second["other"].is_null());
}

TEST_CASE("run log: a continued run drops what lies behind its checkpoint, and a torn last line") {
  const TemporaryFolder folder;
  const std::string whole = folder / "whole.jsonl", path = folder / "metrics.jsonl";
  write_iterations(whole, 0, 10);
  write_iterations(path, 0, 7);
  write_bytes(path, read_bytes(path) + "{\"iteration\": 7, \"pha");
  SUBCASE("after iteration 5") { write_iterations(path, 5, 10); }
  SUBCASE("right at the torn line") { write_iterations(path, 7, 10); }
  SUBCASE("from the start") { write_iterations(path, 0, 10); }
  CHECK(read_bytes(path) == read_bytes(whole));
}

TEST_CASE("run log: every line is in the file as soon as it is written") {
  const TemporaryFolder folder;
  RunLog log(folder / "metrics.jsonl", 0);
  log.write(0, "train", {{"loss", 0.5}});
  CHECK(read_bytes(folder / "metrics.jsonl") == "{\"iteration\": 0, \"phase\": \"train\", \"loss\": 0.5}\n");
}

TEST_CASE("run log: a folder that is not there is named") {
  const TemporaryFolder folder;
  const std::string path = folder / "nowhere/metrics.jsonl";
  CHECK(mentions(data_error([&] { RunLog log(path, 0); }), "nowhere"));
}
