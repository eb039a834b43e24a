#include "apps/results.hpp"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/atomic_file.hpp"

namespace semivox {
namespace {

using Json = nlohmann::ordered_json;

struct NamedStatistic {
  const char* name;
  double Statistics::*member;
};
constexpr NamedStatistic kStatistics[] = {
    {"mean", &Statistics::mean}, {"std", &Statistics::standard_deviation}, {"median", &Statistics::median}};

Json describe(const EvaluationConventions& conventions) {
  const char* one_empty = "";
  switch (conventions.empty) {
    case EmptyPolicy::zero:
      one_empty = "0";
      break;
    case EmptyPolicy::nan:
      one_empty = "not-a-number, left out of mean, std and median";
      break;
    case EmptyPolicy::diagonal:
      one_empty = "diagonal of the image";
      break;
  }
  return {
      {"definitions", "MedPy (medpy.metric.binary)"},
      {"units", name_of(conventions.units)},
      {"surface",
       "object voxels with a background voxel among their 6 neighbours; outside of the image is background"},
      {"hd95", "95th percentile of the distances of both directions together, linear interpolation"},
      {"asd", "mean distance from the prediction's surface to the reference's"},
      {"empty", name_of(conventions.empty)},
      {"distances_if_one_is_empty", one_empty},
      {"if_both_are_empty", "dice 1, jaccard 1, distances 0"},
      {"std", "divides by the number of cases"},
      {"largest_component", conventions.largest_component},
  };
}

Json to_json(const std::array<double, kScores>& values) {
  Json object;
  for (int s = 0; s < kScores; ++s) object[kScoreNames[s]] = values[s];
  return object;
}

void add_statistics(Json& object, const ScoreStatistics& statistics) {
  for (const NamedStatistic& statistic : kStatistics) {
    for (int s = 0; s < kScores; ++s)
      object[statistic.name][kScoreNames[s]] = statistics[s].*statistic.member;
  }
  for (int s = 0; s < kScores; ++s) object["count"][kScoreNames[s]] = statistics[s].count;
}

Json to_json(const CaseResult& result) {
  Json object{{"case", result.name}};
  object.update(to_json(result.foreground()));
  object["classes"] = Json::array();
  for (size_t i = 0; i < result.classes.size(); ++i) {
    const Scores& scores = result.classes[i];
    Json entry{{"label", i + 1}};
    entry.update(to_json(scores.values()));
    entry["true_positive"] = scores.counts.true_positive;
    entry["false_positive"] = scores.counts.false_positive;
    entry["false_negative"] = scores.counts.false_negative;
    entry["true_negative"] = scores.counts.true_negative;
    object["classes"].push_back(entry);
  }
  return object;
}

/// A CSV field; quoted when the name of a case needs it.
std::string field(const std::string& word) {
  if (word.find_first_of(",\"\r\n") == std::string::npos) return word;
  std::string quoted = "\"";
  for (const char c : word) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

void print_fields(std::ostream& out, const std::array<double, kScores>& values) {
  for (const double value : values) {
    out << ',';
    if (!std::isnan(value)) out << value;
  }
}

void print_statistics(std::ostream& out, const std::string& label, const ScoreStatistics& statistics) {
  for (const NamedStatistic& statistic : kStatistics) {
    std::array<double, kScores> values{};
    for (int s = 0; s < kScores; ++s) values[s] = statistics[s].*statistic.member;
    out << statistic.name << ',' << label;
    print_fields(out, values);
    out << ",,,,\n";
  }
}

}  // namespace

void write_results_json(const std::string& path, const Evaluation& evaluation) {
  Json results{{"conventions", describe(evaluation.conventions)}};
  add_statistics(results, evaluation.foreground);
  results["classes"] = Json::array();
  for (size_t i = 0; i < evaluation.classes.size(); ++i) {
    Json entry{{"label", i + 1}};
    add_statistics(entry, evaluation.classes[i]);
    results["classes"].push_back(entry);
  }
  results["cases"] = Json::array();
  for (const CaseResult& result : evaluation.cases) results["cases"].push_back(to_json(result));
  write_file(path, results.dump(2) + "\n");
}

void write_results_csv(const std::string& path, const Evaluation& evaluation) {
  std::ostringstream out;
  out.precision(std::numeric_limits<double>::max_digits10);
  out << "case,label";
  for (const char* name : kScoreNames) out << ',' << name;
  out << ",true_positive,false_positive,false_negative,true_negative\n";
  for (const CaseResult& result : evaluation.cases) {
    for (size_t i = 0; i < result.classes.size(); ++i) {
      const Scores& scores = result.classes[i];
      out << field(result.name) << ',' << i + 1;
      print_fields(out, scores.values());
      out << ',' << scores.counts.true_positive << ',' << scores.counts.false_positive << ','
          << scores.counts.false_negative << ',' << scores.counts.true_negative << '\n';
    }
  }
  for (size_t i = 0; i < evaluation.classes.size(); ++i) {
    print_statistics(out, std::to_string(i + 1), evaluation.classes[i]);
  }
  print_statistics(out, "foreground", evaluation.foreground);
  write_file(path, out.str());
}

}  // namespace semivox
