// `semivox compare` as a user runs it: several methods, one table, again after an interruption.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/program_data.hpp"
#include "tests/program_process.hpp"

using namespace semivox;
namespace fs = std::filesystem;

TEST_CASE("program: compare trains each method once, and skips what is finished") {
  const TemporaryFolder folder;
  const std::string arguments =
      text("compare --methods supervised,mean_teacher --data ", data_set(),
           " --labeled 2 --filters 4 --patch 32x32x16 --batch 2 --iterations 2 --seeds 1,2",
           " --validate-every 0 --device cpu --threads 1 --out ", folder / "cmp");
  const Outcome first = run(folder, arguments);
  INFO(first.error);
  REQUIRE(first.exit_code == 0);
  CHECK(!mentions(first.output, "finished before"));
  const auto json = nlohmann::json::parse(read_bytes(folder / "cmp/comparison.json"));
  REQUIRE(json.size() == 4);
  CHECK(json[3]["method"] == "mean_teacher");
  CHECK(json[3]["seed"] == 2);
  CHECK(json[3]["cases"].size() == 2);
  const std::string table = read_bytes(folder / "cmp/comparison.txt");
  CHECK(mentions(table, "supervised", "mean_teacher", "over the seeds' means"));
  const std::string markdown = read_bytes(folder / "cmp/comparison.md");
  CHECK(std::count(markdown.begin(), markdown.end(), '\n') == 4);
  for (const char* line : {"| method | Dice % |", "|---|", "| supervised | ", "| mean_teacher | "})
    CHECK(mentions(markdown, line));

  const Outcome second = run(folder, arguments);
  REQUIRE(second.exit_code == 0);
  CHECK(mentions(second.output, "supervised, seed 1: finished before",
                 "mean_teacher, seed 2: finished before"));
  CHECK(!mentions(second.output, "cached"));
  CHECK(read_bytes(folder / "cmp/comparison.txt") == table);

  // Scores of other settings are not passed off as those asked for.
  const Outcome all_parts = run(folder, arguments + " --set largest_component=false");
  CHECK(all_parts.exit_code == 2);
  CHECK(mentions(all_parts.error, "window.largest_component", "true", "false"));
  const Outcome other = run(folder, arguments + " --set lr=0.02");
  CHECK(other.exit_code == 2);
  CHECK(mentions(other.error, "train.lr", "0.02", "supervised_seed1"));

  // A run that came to its end without this command is scored; what its training took is not known.
  fs::remove(folder / "cmp/supervised_seed1/results/summary.json");
  REQUIRE(run(folder, arguments).exit_code == 0);
  const auto again = nlohmann::json::parse(read_bytes(folder / "cmp/comparison.json"));
  CHECK(again[0]["seconds_per_iteration"].is_null());
  CHECK(again[0]["cases"] == json[0]["cases"]);
  const std::string untimed = read_bytes(folder / "cmp/comparison.md");
  const size_t supervised = untimed.find("| supervised |");
  CHECK(mentions(untimed.substr(supervised, untimed.find('\n', supervised) - supervised), "| - |"));
}

TEST_CASE("program: compare goes on when a method diverges, and says so at the end") {
  const TemporaryFolder folder;
  const Outcome compared =
      run(folder, text("compare --methods mean_teacher,supervised --set consistency=1e39 --data ", data_set(),
                       " --labeled 2 --filters 4 --patch 32x32x16 --batch 2 --iterations 2",
                       " --validate-every 0 --device cpu --threads 1 --out ", folder / "cmp"));
  INFO(compared.error);
  CHECK(compared.exit_code == 2);
  CHECK(mentions(compared.error, "mean_teacher: iteration", "no number any more: mean_teacher"));
  CHECK(
      mentions(read_bytes(folder / "cmp/comparison.txt"), "over 2 cases", "mean_teacher              - +-"));
  CHECK(
      mentions(read_bytes(folder / "cmp/comparison.md"), "| mean_teacher | - ± - | - |", "| supervised | "));
  const auto json = nlohmann::json::parse(read_bytes(folder / "cmp/comparison.json"));
  REQUIRE(json.size() == 1);
  CHECK(json[0]["method"] == "supervised");
}

TEST_CASE("program: compare needs cases to score") {
  const TemporaryFolder folder;
  fs::copy(data_set(), folder / "data", fs::copy_options::recursive);
  fs::remove(folder / "data/splits.json");
  const Outcome refused =
      run(folder, text("compare --methods supervised --data ", folder / "data", " --out ", folder / "cmp"));
  CHECK(refused.exit_code == 2);
  CHECK(mentions(refused.error, "no validation cases", "splits.json"));
  CHECK_FALSE(fs::exists(folder / "cmp"));
}
