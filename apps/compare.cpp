// `semivox compare`: several methods on the same data, split and seeds, and one table of their scores.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/commands.hpp"
#include "apps/run_plan.hpp"
#include "apps/training_options.hpp"
#include "apps/training_run.hpp"
#include "engine/atomic_file.hpp"
#include "engine/error.hpp"
#include "io/dataset.hpp"

namespace semivox {

namespace fs = std::filesystem;

namespace {

struct CompareArguments {
  std::vector<std::string> methods;
  std::vector<std::string> seeds_typed;
  std::vector<int64_t> seeds;
  std::string out;
  bool save_predictions = false;
};

/// One line of the table: a method's scores over all cases of all seeds.
struct Row {
  std::string method;
  std::array<std::vector<double>, kScores> values;  ///< foreground scores, one per case and seed
  std::array<std::vector<double>, kScores> seed_means;
  double seconds_per_iteration = 0;   ///< mean over the seeds; NaN when one was not trained by this command
  double peak_memory = std::nan("");  ///< largest of the seeds', bytes; NaN when none was
};

nlohmann::json read_json(const std::string& path) {
  std::ifstream in(path);
  nlohmann::json json = nlohmann::json::parse(in, nullptr, false);
  if (json.is_discarded()) throw DataError(text(path, ": no valid JSON"));
  return json;
}

/// A number, or NaN for the null that JSON has instead.
double number_of(const nlohmann::json& value) {
  return value.is_number() ? value.get<double>() : std::nan("");
}

/// What scores depend on: the settings that decide the course of a run, and those of its evaluation.
nlohmann::json settings_of(const RunPlan& plan) {
  nlohmann::json settings;
  for (const auto& [key, value] : plan.metadata) {
    if (key.starts_with("run.")) settings[key.substr(4)] = value;
  }
  for (const Setting& s : plan.config.settings()) {
    if (s.key.starts_with("window.")) settings[s.key] = s.value;
  }
  return settings;
}

/// The summary of a finished run, which must have been made with these settings.
nlohmann::json read_summary(const std::string& path, const nlohmann::json& settings) {
  const nlohmann::json summary = read_json(path);
  if (!summary.is_object() || !summary.contains("cases") || !summary["cases"].is_array())
    throw DataError(
        text(path, ": expected the summary of a run with its cases; without the file it is made anew"));
  const nlohmann::json saved = summary.value("settings", nlohmann::json::object());
  for (const auto& [key, value] : settings.items()) {
    const std::string found = saved.value(key, std::string("(nothing)"));
    if (found != value) {
      throw UsageError(text(path, ": made with ", key, " = ", found, ", this comparison has ",
                            value.get<std::string>(), ", expected the same or another --out"));
    }
  }
  return summary;
}

/// The configuration for one run of the comparison.
RunConfig config_of(RunConfig config, const std::string& method, int64_t seed) {
  config.set("train.method", method, "command line");
  config.keep_options_of(method, true);
  config.set("train.seed", text(seed), "command line");
  return config;
}

/// `execute_run`; when it is stopped, the way to go on is this command.
RunOutcome run_or_explain(const RunConfig& config, const RunRequest& request) {
  try {
    return execute_run(config, request);
  } catch (const Interrupted& stopped) {
    throw Interrupted(text(stopped.what(), "; the same command goes on"));
  }
}

/// Trains unless the run is finished; resumes what is half done.
nlohmann::json finished_run(const RunConfig& config, const std::string& method, int64_t seed,
                            const CompareArguments& arguments) {
  RunRequest request;
  request.folder = text(arguments.out, "/", method, "_seed", seed);
  request.resume = true;
  request.save_predictions = arguments.save_predictions;
  const nlohmann::json settings = settings_of(plan_run(config));
  const std::string summary = request.folder + "/results/summary.json";
  std::cout << "=== " << method << ", seed " << seed << (fs::exists(summary) ? ": finished before" : "")
            << std::endl;
  if (fs::exists(summary)) return read_summary(summary, settings);

  const RunOutcome outcome = run_or_explain(config, request);
  const TrainingResult& t = outcome.training;
  const bool trained = t.iterations > 0;  // not if `semivox train` has come to the end of this run before
  nlohmann::json json;
  json["method"] = method;
  json["seed"] = seed;
  json["settings"] = settings;
  json["seconds_per_iteration"] =
      trained ? (t.seconds - t.validation_seconds) / static_cast<double>(t.iterations) : std::nan("");
  json["peak_memory"] = trained ? static_cast<double>(outcome.peak_memory) : std::nan("");
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

/// The seeds of --seeds, or train.seed. Throws UsageError as for train.seed.
std::vector<int64_t> read_seeds(RunConfig config, const std::vector<std::string>& typed) {
  if (typed.empty()) return {config.integer("train.seed", 0)};
  std::vector<int64_t> seeds;
  for (const std::string& word : typed) {
    config.set("train.seed", word, "--seeds");
    seeds.push_back(config.integer("train.seed", 0));
  }
  return seeds;
}

/// Throws UsageError for what cannot be compared, before anything is trained.
void check_comparison(const RunConfig& config, const CompareArguments& arguments) {
  if (arguments.out.empty()) throw UsageError("--out: found '', expected a folder");
  const std::string& data = config.value("data.folder");
  if (io::open_dataset(data).validation.empty())
    throw UsageError(text("compare: ", data, " has no validation cases (splits.json)"));
  std::set<std::string> methods;
  for (const std::string& method : arguments.methods) {
    if (!methods.insert(method).second) throw UsageError(text("--methods: found ", method, " twice"));
    plan_run(config_of(config, method, arguments.seeds.front()));
  }
  std::set<int64_t> seeds;
  for (const int64_t seed : arguments.seeds) {
    if (!seeds.insert(seed).second) throw UsageError(text("--seeds: found ", seed, " twice"));
  }
}

void add_run(Row& row, const nlohmann::json& run) {
  row.seconds_per_iteration += number_of(run.value("seconds_per_iteration", nlohmann::json()));
  row.peak_memory = std::fmax(row.peak_memory, number_of(run.value("peak_memory", nlohmann::json())));
  for (size_t i = 0; i < kScores; ++i) {
    std::vector<double> values;
    for (const auto& c : run["cases"]) {
      values.push_back(number_of(c[kScoreNames[i]]));
    }
    row.seed_means[i].push_back(statistics_of(values).mean);
    row.values[i].insert(row.values[i].end(), values.begin(), values.end());
  }
}

/// `value` in printf's `format`, or a dash for NaN.
std::string cell(const char* format, double value) {
  if (std::isnan(value)) return "-";
  char out[32];
  std::snprintf(out, sizeof out, format, value);
  return out;
}

/// Cases and seeds behind the scores of a method that has any.
size_t cases_of(const std::vector<Row>& rows) {
  size_t most = 0;
  for (const Row& row : rows) most = std::max(most, row.values[0].size());
  return most;
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
      std::snprintf(line, sizeof line, " %8s +- %5s", cell("%.2f", scale * s.mean).c_str(),
                    cell("%.2f", scale * s.standard_deviation).c_str());
      out += line;
    }
    std::snprintf(line, sizeof line, " %8s %8s\n", cell("%.3f", row.seconds_per_iteration).c_str(),
                  cell("%.0f", row.peak_memory / 1048576).c_str());
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
  for (const Row& row : rows) {
    out += "| " + row.method + " |";
    for (size_t i = 0; i < kScores; ++i) {
      const Statistics s = statistics_of(row.values[i]);
      const double scale = i < 2 ? 100 : 1;
      out += " " + cell("%.2f", scale * s.mean) + " ± " + cell("%.2f", scale * s.standard_deviation) + " |";
      if (i == 0) out += " " + cell("%.2f", scale * s.median) + " |";
    }
    out += " " + cell("%.3f", row.seconds_per_iteration) + " | " + cell("%.0f", row.peak_memory / 1048576) +
           " |\n";
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
  command->add_option("--seeds", arguments->seeds_typed, "seeds, separated by commas [--seed]")
      ->delimiter(',');
  command->add_option("--out", arguments->out, "folder for one run folder per method and seed")->required();
  command->add_flag("--save-predictions", arguments->save_predictions,
                    "keep label maps and pictures of the validation cases");
  command->callback([arguments, options] {
    const RunConfig config = options->resolve();
    if (config.value("data.folder").empty()) throw UsageError("--data: missing");
    arguments->seeds = read_seeds(config, arguments->seeds_typed);
    check_comparison(config, *arguments);
    std::vector<Row> rows;
    for (const std::string& method : arguments->methods) rows.emplace_back().method = method;
    nlohmann::json runs = nlohmann::json::array();
    std::string diverged;
    for (Row& row : rows) {
      try {
        for (const int64_t seed : arguments->seeds) {
          runs.push_back(finished_run(config_of(config, row.method, seed), row.method, seed, *arguments));
          add_run(row, runs.back());
        }
        row.seconds_per_iteration /= static_cast<double>(arguments->seeds.size());
      } catch (const Diverged& error) {  // the others may have hours to go, and do not need it
        std::cerr << "semivox: " << row.method << ": " << error.what() << std::endl;
        row = Row{row.method, {}, {}, std::nan("")};  // not the mean of some seeds
        diverged += (diverged.empty() ? "" : ", ") + row.method;
      }
    }
    const std::string shown =
        text("mean +- standard deviation over ", cases_of(rows), " cases, final weights, ",
             config.flag("window.largest_component") ? "largest component" : "all components",
             ", distances in voxels of the files\n", table(rows, arguments->seeds.size()));
    write_file(arguments->out + "/comparison.txt", shown);
    write_file(arguments->out + "/comparison.md", markdown(rows));
    write_file(arguments->out + "/comparison.json", runs.dump(1) + "\n");
    std::cout << shown << "written to " << arguments->out << "/comparison.{txt,md,json}" << std::endl;
    if (!diverged.empty())
      throw Diverged(text("compare: without scores, since the loss is no number any more: ", diverged));
  });
}

}  // namespace semivox
