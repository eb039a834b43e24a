// `semivox compare`: several methods on the same data, split and seeds, and one table of their scores.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/commands.hpp"
#include "apps/training_options.hpp"
#include "apps/training_run.hpp"
#include "engine/atomic_file.hpp"
#include "engine/error.hpp"

namespace semivox {

namespace fs = std::filesystem;

namespace {

struct CompareArguments {
  std::vector<std::string> methods;
  std::vector<int64_t> seeds;
  std::string out;
  bool save_predictions = false;
};

/// One line of the table: a method's scores over all cases of all seeds.
struct Row {
  std::string method;
  std::array<std::vector<double>, kScores> values;  ///< foreground scores, one per case and seed
  std::array<std::vector<double>, kScores> seed_means;
  double seconds_per_iteration = 0;
  double peak_memory = 0;  ///< largest of the seeds, bytes
};

nlohmann::json read_json(const std::string& path) {
  std::ifstream in(path);
  nlohmann::json json = nlohmann::json::parse(in, nullptr, false);
  if (json.is_discarded()) throw DataError(text(path, ": no valid JSON"));
  return json;
}

/// Trains unless the run is finished; resumes what is half done.
nlohmann::json finished_run(RunConfig config, const std::string& method, int64_t seed,
                            const CompareArguments& arguments) {
  RunRequest request;
  request.folder = text(arguments.out, "/", method, "_seed", seed);
  request.resume = true;
  request.save_predictions = arguments.save_predictions;
  config.set("train.method", method, "command line");
  config.keep_options_of(method, true);
  config.set("train.seed", text(seed), "command line");
  const std::string summary = request.folder + "/results/summary.json";
  std::cout << "=== " << method << ", seed " << seed << (fs::exists(summary) ? ": finished before" : "")
            << std::endl;
  if (fs::exists(summary)) return read_json(summary);

  const RunOutcome outcome = execute_run(config, request);
  if (!outcome.evaluation) throw UsageError("compare: the data set has no validation cases (splits.json)");
  const TrainingResult& t = outcome.training;
  nlohmann::json json;
  json["method"] = method;
  json["seed"] = seed;
  json["seconds_per_iteration"] =
      t.iterations > 0 ? (t.seconds - t.validation_seconds) / static_cast<double>(t.iterations) : 0.0;
  json["peak_memory"] = outcome.peak_memory;
  for (const CaseResult& c : outcome.evaluation->cases) {
    const auto scores = c.foreground();
    nlohmann::json entry{{"case", c.name}};
    for (int i = 0; i < kScores; ++i)
      entry[kScoreNames[static_cast<size_t>(i)]] = scores[static_cast<size_t>(i)];
    json["cases"].push_back(entry);
  }
  write_file(summary, json.dump(1) + "\n");  // last: with it the run counts as finished
  return json;
}

void add_run(Row& row, const nlohmann::json& run) {
  row.seconds_per_iteration += run["seconds_per_iteration"].get<double>();
  row.peak_memory = std::max(row.peak_memory, run.value("peak_memory", 0.0));  // older runs lack it
  for (size_t i = 0; i < kScores; ++i) {
    std::vector<double> values;
    for (const auto& c : run["cases"]) {
      const auto& v = c[kScoreNames[i]];
      values.push_back(v.is_number() ? v.get<double>() : std::nan(""));
    }
    row.seed_means[i].push_back(statistics_of(values).mean);
    row.values[i].insert(row.values[i].end(), values.begin(), values.end());
  }
}

std::string table(const std::vector<Row>& rows, size_t seeds) {
  char line[256];
  std::snprintf(line, sizeof line, "%-18s %17s %17s %17s %17s %8s %8s\n", "method", "Dice %", "Jaccard %",
                "95HD voxel", "ASD voxel", "s/it", "MiB");
  std::string out = line;
  const auto append = [&](const std::string& name, const Row& row, const auto& values) {
    std::snprintf(line, sizeof line, "%-18s", name.c_str());
    out += line;
    for (size_t i = 0; i < kScores; ++i) {
      const Statistics s = statistics_of(values[i]);
      const double scale = i < 2 ? 100 : 1;
      std::snprintf(line, sizeof line, " %8.2f +- %5.2f", scale * s.mean, scale * s.standard_deviation);
      out += line;
    }
    std::snprintf(line, sizeof line, " %8.3f %8.0f\n", row.seconds_per_iteration, row.peak_memory / 1048576);
    out += line;
  };
  for (const Row& row : rows) append(row.method, row, row.values);
  if (seeds > 1) {
    out += "over the seeds' means:\n";
    for (const Row& row : rows) append(row.method, row, row.seed_means);
  }
  return out;
}

/// The same as a table in Markdown, for a paper's draft or a README.
std::string markdown(const std::vector<Row>& rows) {
  std::string out =
      "| method | Dice % | median | Jaccard % | 95HD voxel | ASD voxel | s/iteration | MiB |\n"
      "|---|--:|--:|--:|--:|--:|--:|--:|\n";
  char cell[64];
  const auto append = [&](const char* format, auto... values) {
    std::snprintf(cell, sizeof cell, format, values...);
    out += cell;
  };
  for (const Row& row : rows) {
    out += "| " + row.method + " |";
    for (size_t i = 0; i < kScores; ++i) {
      const Statistics s = statistics_of(row.values[i]);
      const double scale = i < 2 ? 100 : 1;
      append(" %.2f ± %.2f |", scale * s.mean, scale * s.standard_deviation);
      if (i == 0) append(" %.2f |", scale * s.median);
    }
    append(" %.3f | %.0f |\n", row.seconds_per_iteration, row.peak_memory / 1048576);
  }
  return out;
}

}  // namespace

void add_compare_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "compare",
      "Train several methods on the same data and print one table; runs that are finished are not repeated");
  const auto arguments = std::make_shared<CompareArguments>();
  const auto options = add_training_options(*command);
  command->add_option("--methods", arguments->methods, "methods, separated by commas")
      ->delimiter(',')
      ->required();
  command->add_option("--seeds", arguments->seeds, "seeds, separated by commas [--seed]")->delimiter(',');
  command->add_option("--out", arguments->out, "folder for one run folder per method and seed")->required();
  command->add_flag("--save-predictions", arguments->save_predictions,
                    "keep label maps and pictures of the validation cases");
  command->callback([arguments, options] {
    const RunConfig config = options->resolve();
    if (config.value("data.folder").empty()) throw UsageError("--data: missing");
    if (arguments->seeds.empty()) arguments->seeds.push_back(config.integer("train.seed", 0));
    std::vector<Row> rows;
    for (const std::string& method : arguments->methods) {
      find_method(method);
      rows.push_back({method, {}, {}, 0, 0});
    }
    nlohmann::json runs = nlohmann::json::array();
    for (Row& row : rows) {
      for (const int64_t seed : arguments->seeds) {
        runs.push_back(finished_run(config, row.method, seed, *arguments));
        add_run(row, runs.back());
      }
      row.seconds_per_iteration /= static_cast<double>(arguments->seeds.size());
    }
    const std::string shown =
        text("mean +- standard deviation over ", rows[0].values[0].size(), " cases, final weights, ",
             config.flag("window.largest_component") ? "largest component" : "all components",
             ", distances in voxels of the files\n", table(rows, arguments->seeds.size()));
    write_file(arguments->out + "/comparison.txt", shown);
    write_file(arguments->out + "/comparison.md", markdown(rows));
    write_file(arguments->out + "/comparison.json", runs.dump(1) + "\n");
    std::cout << shown << "written to " << arguments->out << "/comparison.{txt,md,json}" << std::endl;
  });
}

}  // namespace semivox
