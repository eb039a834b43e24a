#include "apps/bench.hpp"

#include <CLI/CLI.hpp>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>

#include "apps/commands.hpp"
#include "apps/environment.hpp"
#include "apps/extent.hpp"
#include "engine/atomic_file.hpp"
#include "methods/method.hpp"

namespace semivox {

namespace {

using Json = nlohmann::ordered_json;

/// A setting of a benchmark: its option on the command line, and its value in the report.
struct BenchSetting {
  std::function<void(CLI::App&, BenchOptions&)> add;
  std::function<Json(const BenchOptions&)> value;
};

BenchOptions::Extent extent_option(const std::string& flag, const std::string& word) {
  const auto extent = parse_extent(word);
  if (!extent) throw CLI::ValidationError(flag, text("found '", word, "', expected DxHxW"));
  return *extent;
}

BenchSetting extent_setting(const std::string& flag, BenchOptions::Extent BenchOptions::*member,
                            const std::string& help) {
  return {[=](CLI::App& app, BenchOptions& o) {
            app.add_option_function<std::string>(
                   flag, [=, &o](const std::string& word) { o.*member = extent_option(flag, word); }, help)
                ->type_name("DxHxW");
          },
          [=](const BenchOptions& o) { return o.*member; }};
}

BenchSetting count_setting(const std::string& flag, int64_t BenchOptions::*member, const std::string& help) {
  return {[=](CLI::App& app, BenchOptions& o) {
            app.add_option(flag, o.*member, help)->check(CLI::Range(1, 1000000))->capture_default_str();
          },
          [=](const BenchOptions& o) { return o.*member; }};
}

BenchSetting word_setting(const std::string& flag, std::string BenchOptions::*member,
                          const std::string& help) {
  return {[=](CLI::App& app, BenchOptions& o) { app.add_option(flag, o.*member, help); },
          [=](const BenchOptions& o) { return o.*member; }};
}

BenchSetting flag_setting(const std::string& flag, bool BenchOptions::*member, const std::string& help) {
  return {[=](CLI::App& app, BenchOptions& o) { app.add_flag(flag, o.*member, help); },
          [=](const BenchOptions& o) { return o.*member; }};
}

const std::map<std::string, BenchSetting>& settings() {
  using O = BenchOptions;
  static const std::map<std::string, BenchSetting> all{
      {"network",
       {[](CLI::App& app, O& o) {
          app.add_option("--network", o.network.name, "Network (default vnet)")
              ->check(CLI::IsMember(network_names()));
        },
        [](const O& o) { return o.network.name; }}},
      {"norm",
       {[](CLI::App& app, O& o) {
          app.add_option("--norm", o.network.norm, "Normalisation (default auto: as published)")
              ->check(CLI::IsMember({"auto", "none", "batchnorm", "groupnorm", "instancenorm"}));
        },
        [](const O& o) { return resolved(o.network).norm; }}},
      {"filters",
       {[](CLI::App& app, O& o) {
          app.add_option("--filters", o.network.filters, "Width of the first stage (default 16)")
              ->check(CLI::Range(1, 65536));
        },
        [](const O& o) { return o.network.filters; }}},
      {"classes",
       {[](CLI::App& app, O& o) {
          app.add_option("--classes", o.network.classes, "Classes (default 2)")->check(CLI::Range(2, 16));
        },
        [](const O& o) { return o.network.classes; }}},
      {"precision",
       {[](CLI::App& app, O& o) {
          const std::map<std::string, DType> words{{"f32", DType::f32}, {"bf16", DType::bf16}};
          app.add_option("--precision", o.precision, "f32 (default) or bf16")
              ->transform(CLI::CheckedTransformer(words));
        },
        [](const O& o) { return name_of(o.precision); }}},
      {"mode",
       {[](CLI::App& app, O& o) {
          app.add_option_function<std::string>(
                 "--mode", [&o](const std::string& word) { o.evaluation = word == "eval"; },
                 "train (default), or eval: forward with running statistics, no gradients")
              ->check(CLI::IsMember({"train", "eval"}));
        },
        [](const O& o) { return o.evaluation ? "eval" : "train"; }}},
      {"method",
       {[](CLI::App& app, O& o) {
          std::vector<std::string> methods;
          for (const MethodInfo& info : registered_methods()) methods.push_back(info.name);
          app.add_option("--method", o.method, "Time whole iterations of this method's last phase")
              ->check(CLI::IsMember(methods));
        },
        [](const O& o) { return o.method; }}},
      {"patches",
       {[](CLI::App& app, O& o) {
          app.add_option_function<std::vector<std::string>>(
                 "--patches",
                 [&o](const std::vector<std::string>& words) {
                   o.patches.clear();
                   for (const auto& w : words) o.patches.push_back(extent_option("--patches", w));
                 },
                 "Patches (default 64x64x64,96x96x96,112x112x80,160x160x160)")
              ->delimiter(',')
              ->type_name("DxHxW");
        },
        [](const O& o) { return o.patches; }}},
      {"patch", extent_setting("--patch", &O::patch, "Patch (default 112x112x80)")},
      {"size", extent_setting("--size", &O::size, "Voxels of a scan (default 176x148x88)")},
      {"stride", extent_setting("--stride", &O::stride, "Step between windows (default 18x18x4)")},
      {"batch", count_setting("--batch", &O::batch, "Samples per batch")},
      {"cases", count_setting("--cases", &O::cases, "Scans to synthesize")},
      {"window-batch", count_setting("--window-batch", &O::window_batch, "Windows per forward pass")},
      {"filter", word_setting("--filter", &O::filter, "Only rows whose name contains this")},
      {"data", word_setting("--data", &O::data, "Data set folder (default: synthetic scans)")},
      {"prediction",
       word_setting("--prediction", &O::prediction, "Label map, NIfTI (default: a synthetic one)")},
      {"reference",
       word_setting("--reference", &O::reference, "Label map, NIfTI (default: a synthetic one)")},
      {"profile",
       flag_setting("--profile", &O::profile, "Print the per-op timer table of one more iteration")},
      {"recompute",
       {[](CLI::App& app, O& o) {
          app.add_flag("--recompute", o.network.recompute,
                       "Compute cheap convolutions again in backward instead of keeping them");
        },
        [](const O& o) { return o.network.recompute; }}},
      {"graph",
       flag_setting("--graph", &O::graph, "On a GPU: replay the method's iteration as one CUDA graph")},
      {"whole-volume", flag_setting("--whole-volume", &O::whole_volume, "The whole scan as one window")}};
  return all;
}

struct Benchmark {
  const char* name;
  const char* help;
  BenchReport (*run)(const BenchOptions&);
  std::vector<std::string> settings;  // besides --iterations
  bool any_device = true;             // false: the work is the CPU's
  BenchOptions defaults = {};
};

std::vector<Benchmark> benchmarks() {
  BenchOptions method_batch, one_sample, once, embedded;
  embedded.patch = {112, 112, 96};  // DyCON's largest
  embedded.batch = 8;
  method_batch.batch = 4;
  one_sample.batch = 1;
  once.iterations = 1;
  return {
      {"step",
       "Forward, backward and update of a training step, and its memory",
       bench_step,
       {"network", "norm", "filters", "classes", "patch", "batch", "precision", "mode", "method", "recompute",
        "graph", "profile"}},
      {"methods",
       "An iteration of every method, and its memory, beside supervised training",
       bench_methods,
       {"network", "filters", "classes", "patch", "batch", "precision", "graph"},
       true,
       method_batch},
      {"scaling",
       "Time and memory per voxel of training steps with patches of several sizes",
       bench_scaling,
       {"network", "norm", "filters", "classes", "patches", "batch", "precision", "recompute"},
       true,
       one_sample},
      {"layers",
       "Each convolution of the V-Net: milliseconds and GFLOP/s",
       bench_layers,
       {"filters", "classes", "patch", "batch", "precision", "filter"}},
      {"kernels",
       "Each of our own kernels: GB/s, and the share of a copy's",
       bench_kernels,
       {"filters", "classes", "patch", "batch", "precision", "filter"}},
      {"contrast",
       "FeCL and InfoNCE between the embeddings of a patch: time and memory",
       bench_contrast,
       {"patch", "batch"},
       true,
       embedded},
      {"data",
       "Reading and caching a data set, drawing augmented batches",
       bench_data,
       {"data", "cases", "size", "patch", "batch"}},
      {"metrics",
       "Dice, Jaccard, 95HD and ASD of one case",
       bench_metrics,
       {"prediction", "reference", "size"},
       false},
      {"predict",
       "Sliding-window prediction of one scan",
       bench_predict,
       {"network", "norm", "filters", "classes", "precision", "size", "patch", "stride", "window-batch",
        "whole-volume"},
       true,
       once},
  };
}

/// A row's value as a CSV field: text in quotes, nothing for null.
std::string field(const Json& value) {
  if (value.is_null()) return "";
  if (!value.is_string()) return value.dump();
  std::string quoted = "\"";
  for (const char c : value.get<std::string>()) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string csv(const Json& rows) {
  std::ostringstream out;
  for (const Json& row : rows) {
    if (out.tellp() == 0) {
      for (auto it = row.begin(); it != row.end(); ++it) out << (it == row.begin() ? "" : ",") << it.key();
      out << '\n';
    }
    for (auto it = row.begin(); it != row.end(); ++it) out << (it == row.begin() ? "" : ",") << field(*it);
    out << '\n';
  }
  return out.str();
}

/// "112x112x80" for [112,112,80], the word itself for text.
std::string plain(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return value.dump();
  std::string joined;
  for (const Json& part : value) {
    joined += (joined.empty() ? "" : part.is_array() ? " " : "x") + plain(part);
  }
  return joined;
}

struct BenchArguments {
  BenchOptions options;
  std::string device = "cpu", json, csv;
};

void run_benchmark(const Benchmark& benchmark, BenchArguments arguments) {
  BenchOptions& options = arguments.options;
  options.device = choose_device(arguments.device);
  const nlohmann::json environment = environment_json(options.device);
  Json values;
  for (const std::string& name : benchmark.settings) values[name] = settings().at(name).value(options);
  values["iterations"] = options.iterations;

  std::cout << environment["device"].get<std::string>() << '\n';
  for (const auto& [name, value] : values.items()) {
    if (value != Json("") && value != Json(false)) std::cout << name << ' ' << plain(value) << "  ";
  }
  std::cout << std::endl;
  const BenchReport measured = benchmark.run(options);
  Json report{{"benchmark", benchmark.name}, {"environment", environment}, {"settings", values}};
  report["rows"] = measured.rows;
  report.update(measured.details);
  if (!arguments.json.empty()) write_file(arguments.json, report.dump(2) + "\n");
  if (!arguments.csv.empty()) write_file(arguments.csv, csv(measured.rows));
}

void add_benchmark(CLI::App& parent, const Benchmark& benchmark) {
  CLI::App* command = parent.add_subcommand(benchmark.name, benchmark.help);
  const auto arguments = std::make_shared<BenchArguments>();
  arguments->options = benchmark.defaults;
  for (const std::string& name : benchmark.settings) settings().at(name).add(*command, arguments->options);
  count_setting("--iterations", &BenchOptions::iterations, "Timed repetitions")
      .add(*command, arguments->options);
  if (benchmark.any_device) {
    arguments->device = "auto";
    command->add_option("--device", arguments->device, "auto (default), cpu, cuda or cuda:<index>");
  }
  command->add_option("--json", arguments->json, "Write settings, machine and results to this JSON file");
  command->add_option("--csv", arguments->csv, "Write the table to this CSV file");
  command->callback([benchmark, arguments] { run_benchmark(benchmark, *arguments); });
}

}  // namespace

void add_bench_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "bench", "Time training, the convolutions, the kernels, data, metrics and prediction");
  command->require_subcommand(1);
  for (const Benchmark& benchmark : benchmarks()) add_benchmark(*command, benchmark);
}

}  // namespace semivox
