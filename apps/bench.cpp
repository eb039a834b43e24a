#include "apps/bench.hpp"

#include <CLI/CLI.hpp>
#include <iostream>
#include <map>
#include <memory>

#include "apps/commands.hpp"
#include "apps/environment.hpp"
#include "apps/extent.hpp"
#include "engine/arithmetic.hpp"
#include "engine/atomic_file.hpp"
#include "engine/parallel.hpp"
#include "engine/random.hpp"
#include "methods/method.hpp"

namespace semivox {

Tensor random_tensor(Shape shape, DType dtype, Device device, uint64_t seed) {
  const Tensor host = Tensor::empty(shape, DType::f32, Device{}, MemoryTag::data);
  float* values = host.data<float>();
  const RandomStream random{seed, 0, 0};
  parallel_blocks(host.elements(), 65536, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) values[i] = 2 * random.uniform(static_cast<uint64_t>(i)) - 1;
  });
  return cast(host.to(device), dtype);
}

Tensor ellipsoid_labels(Shape shape, Device device) {
  const Tensor host = Tensor::empty(shape.with_channels(1), DType::u8, Device{}, MemoryTag::data);
  const auto offset = [](int64_t i, int64_t size) {
    return (static_cast<double>(i) + 0.5) / static_cast<double>(size) - 0.5;
  };
  for (int64_t i = 0; i < shape.rows(); ++i) {
    const double d = offset(i / (shape.h * shape.w) % shape.d, shape.d);
    const double h = offset(i / shape.w % shape.h, shape.h), w = offset(i % shape.w, shape.w);
    host.data<uint8_t>()[i] = d * d + h * h + w * w < 0.09 ? 1 : 0;
  }
  return host.to(device);
}

namespace {

/// What the three benchmarks have in common on the command line.
struct Arguments {
  BenchOptions options;
  std::string device = "auto", json;
};

using Benchmark = nlohmann::ordered_json (*)(const BenchOptions&);

void run_benchmark(const char* name, Benchmark benchmark, Arguments arguments) {
  BenchOptions& options = arguments.options;
  options.device = choose_device(arguments.device);
  const nlohmann::json environment = environment_json(options.device);
  std::cout << environment["device"].get<std::string>() << ", " << environment["threads"] << " threads; "
            << options.network.name << ", " << options.network.filters << " filters, patch "
            << extent_text(options.patch) << ", batch " << options.batch << ", " << name_of(options.precision)
            << ", median of " << options.iterations << std::endl;
  nlohmann::ordered_json report;
  report["benchmark"] = name;
  report["environment"] = environment;
  report["settings"] = {{"network", options.network.name},
                        {"filters", options.network.filters},
                        {"classes", options.network.classes},
                        {"norm", resolved(options.network).norm},
                        {"patch", options.patch},
                        {"batch", options.batch},
                        {"precision", name_of(options.precision)},
                        {"iterations", options.iterations}};
  report.update(benchmark(options));
  if (!arguments.json.empty()) write_file(arguments.json, report.dump(2) + "\n");
}

void add_benchmark(CLI::App& parent, const char* name, const char* help, Benchmark benchmark) {
  CLI::App* command = parent.add_subcommand(name, help);
  const auto arguments = std::make_shared<Arguments>();
  BenchOptions& options = arguments->options;
  command->add_option("--filters", options.network.filters, "Width of the first stage (default 16)")
      ->check(CLI::Range(1, 65536));
  command->add_option("--classes", options.network.classes, "Classes (default 2)")->check(CLI::Range(2, 16));
  command
      ->add_option_function<std::string>(
          "--patch",
          [arguments](const std::string& word) {
            const auto patch = parse_extent(word);
            if (!patch) throw CLI::ValidationError("--patch", text("found '", word, "', expected DxHxW"));
            arguments->options.patch = *patch;
          },
          "Patch, DxHxW (default 112x112x80)")
      ->type_name("DxHxW");
  command->add_option("--batch", options.batch, "Samples per batch (default 2)")->check(CLI::Range(1, 4096));
  command->add_option("--iterations", options.iterations, "Timed repetitions (default 5)")
      ->check(CLI::Range(1, 1000000));
  const std::map<std::string, DType> precisions{{"f32", DType::f32}, {"bf16", DType::bf16}};
  command->add_option("--precision", options.precision, "f32 (default) or bf16")
      ->transform(CLI::CheckedTransformer(precisions));
  command->add_option("--device", arguments->device, "auto (default), cpu, cuda or cuda:<index>");
  command->add_option("--json", arguments->json, "Write the results to this JSON file");
  if (benchmark == bench_step) {
    command->add_option("--network", options.network.name, "Network (default vnet)")
        ->check(CLI::IsMember(network_names()));
    command->add_option("--norm", options.network.norm, "Normalisation (default auto: as published)")
        ->check(CLI::IsMember({"auto", "none", "batchnorm", "groupnorm", "instancenorm"}));
    std::vector<std::string> methods;
    for (const MethodInfo& info : registered_methods()) methods.push_back(info.name);
    command->add_option("--method", options.method, "Time whole iterations of this method's last phase")
        ->check(CLI::IsMember(methods));
    command->add_flag("--profile", options.profile, "Print the per-op timer table of one more iteration");
  }
  command->callback([=] { run_benchmark(name, benchmark, *arguments); });
}

}  // namespace

void add_bench_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("bench", "Time a training step, the convolutions, the kernels");
  command->require_subcommand(1);
  add_benchmark(*command, "step", "Forward, backward and update of a training step, and its memory",
                bench_step);
  add_benchmark(*command, "layers", "Each convolution of the V-Net: milliseconds and GFLOP/s", bench_layers);
  add_benchmark(*command, "kernels", "Each of our own kernels: GB/s, and the share of a copy's",
                bench_kernels);
}

}  // namespace semivox
