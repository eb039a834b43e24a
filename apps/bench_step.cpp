// The training step: its parts, its evaluation forward, whole iterations of a method, and how a step grows
// with the patch.
#include <cstdio>
#include <iostream>
#include <memory>

#include "apps/bench.hpp"
#include "apps/extent.hpp"
#include "engine/memory.hpp"
#include "engine/optimizer.hpp"
#include "engine/random.hpp"
#include "methods/method.hpp"
#include "methods/step_runner.hpp"
#include "methods/supervised_loss.hpp"

namespace semivox {
namespace {

using Json = nlohmann::ordered_json;

/// Median seconds of the named parts of an iteration, and the memory that it took.
struct Measured {
  std::vector<std::string> parts;
  std::vector<double> seconds;  // by part
  MemoryStatistics memory;
};

/// Runs `iteration(i)` once untimed, then timed, then once for the table.
template <class F>
Measured measure(const BenchOptions& options, std::vector<std::string> parts, const F& iteration) {
  Measured measured{std::move(parts), {}, {}};
  std::vector<std::vector<double>> seconds(measured.parts.size());
  iteration(0);
  reset_peak_memory(options.device);
  for (int64_t i = 1; i <= options.iterations; ++i) {
    const std::vector<double> times = iteration(i);
    for (size_t part = 0; part < times.size(); ++part) seconds[part].push_back(times[part]);
  }
  for (const auto& times : seconds) measured.seconds.push_back(median(times));
  measured.memory = memory_statistics(options.device);
  if (options.profile) {
    enable_profile(true);
    iteration(options.iterations + 1);
    std::cout << profile_table();
    enable_profile(false);
  }
  return measured;
}

/// Seconds since `start`, with the device's work done; moves `start`.
double lap(Device device, double& start) {
  synchronize(device);
  const double now = now_seconds(), seconds = now - start;
  start = now;
  return seconds;
}

Measured supervised_step(const BenchOptions& options) {
  const Device device = options.device;
  const auto network = make_network(options.network);
  network->allocate(options.precision, device, true);
  network->parameters().initialize(1);
  const auto optimizer = make_optimizer({}, network->parameters());
  const Tensor image = random_tensor(options.shape(options.network.in_channels), DType::f32, device, 1);
  const Tensor labels = ellipsoid_labels(options.shape(1), device);
  return measure(options, {"forward", "backward", "update", "step"}, [&](int64_t i) {
    Random random(1, static_cast<uint64_t>(i));
    synchronize(device);
    double start = now_seconds();
    const double first = start;
    const Variable logits = network->forward(Variable(image), {true, &random});
    const Variable loss = supervised_loss(logits, labels, false).loss;
    const double forward = lap(device, start);
    network->parameters().zero_gradients();
    loss.backward();
    const double backward = lap(device, start);
    optimizer->step(0.01);
    const double update = lap(device, start);
    return std::vector<double>{forward, backward, update, now_seconds() - first};
  });
}

Measured evaluation_forward(const BenchOptions& options) {
  const Device device = options.device;
  const NoGrad no_grad;
  const auto network = make_network(options.network);
  network->allocate(options.precision, device, false);
  network->parameters().initialize(1);
  const Variable image(random_tensor(options.shape(options.network.in_channels), DType::f32, device, 1));
  return measure(options, {"forward"}, [&](int64_t) {
    synchronize(device);
    double start = now_seconds();
    const Variable logits = network->forward(image, Pass{});
    return std::vector<double>{lap(device, start)};
  });
}

Measured method_iteration(const BenchOptions& options, Json& details) {
  const Device device = options.device;
  OptionReader reader;
  const MethodInfo& info = find_method(options.method);
  require_network(info, options.network.name, "--network");
  const std::unique_ptr<Method> method = info.make(reader);
  MethodSetup setup;
  setup.network = options.network;
  setup.precision = options.precision;
  setup.device = device;
  setup.batch = options.batch;
  const std::vector<Phase> phases = method->phases(setup);
  const Phase& phase = phases.back();
  method->build(setup);
  const auto last = static_cast<int64_t>(phases.size()) - 1;
  for (int64_t i = 1; i <= last; ++i) method->begin_phase(i);
  BenchOptions sized = options;
  sized.batch = phase.labeled + phase.unlabeled;
  const Batch batch{random_tensor(sized.shape(options.network.in_channels), DType::f32, device, 1),
                    ellipsoid_labels(sized.shape(1), device), phase.labeled};
  details["phase"] = phase.name;
  details["labeled"] = phase.labeled;
  details["unlabeled"] = phase.unlabeled;
  StepRunner step(*method, device, 1, options.graph);
  const auto iteration = [&](int64_t i) {
    synchronize(device);
    double start = now_seconds();
    step(batch, last, i, 0.01, static_cast<uint64_t>(i));
    return std::vector<double>{lap(device, start)};
  };
  if (options.graph) {  // the first ones prepare what is recorded then
    for (int64_t i = 0; i < 3; ++i) iteration(i);
  }
  return measure(options, {"iteration"}, iteration);
}

/// GFLOP of the convolutions in a part of a V-Net's step; 0 for parts without.
double gflop_of(const std::string& part, const BenchOptions& options) {
  if (options.network.name != "vnet") return 0;
  const Operations count = vnet_operations(options);
  if (part == "forward") return count.forward * 1e-9;
  if (part == "backward") return count.backward * 1e-9;
  return part == "step" ? (count.forward + count.backward) * 1e-9 : 0;
}

}  // namespace

BenchReport bench_step(const BenchOptions& options) {
  if (options.evaluation && !options.method.empty()) {
    throw UsageError("--mode: found eval, expected train with --method");
  }
  BenchReport report;
  const Measured measured = options.evaluation       ? evaluation_forward(options)
                            : options.method.empty() ? supervised_step(options)
                                                     : method_iteration(options, report.details);
  if (!options.method.empty()) {
    std::printf("phase %s: %lld labelled + %lld unlabelled samples\n",
                report.details["phase"].get<std::string>().c_str(),
                report.details["labeled"].get<long long>(), report.details["unlabeled"].get<long long>());
  }
  std::printf("%-12s %12s %12s %12s\n", "part", "s", "conv GFLOP", "GFLOP/s");
  for (size_t i = 0; i < measured.parts.size(); ++i) {
    const double seconds = measured.seconds[i], gflop = gflop_of(measured.parts[i], options);
    std::printf("%-12s %12.4f", measured.parts[i].c_str(), seconds);
    if (gflop > 0) std::printf(" %12.2f %12.1f", gflop, gflop / seconds);
    std::printf("\n");
    report.rows.push_back({{"part", measured.parts[i]},
                           {"seconds", seconds},
                           {"gflop", gflop > 0 ? Json(gflop) : Json()},
                           {"gflop_per_second", gflop > 0 ? Json(gflop / seconds) : Json()}});
  }
  Json& peak = report.details["peak_bytes"];
  const auto line = [&](const char* name, int64_t bytes) {
    peak[name] = bytes;
    std::printf("peak %-12s %12s\n", name, format_bytes(bytes).c_str());
  };
  for (int tag = 0; tag < kMemoryTags; ++tag) {
    line(name_of(static_cast<MemoryTag>(tag)), measured.memory.peak[tag]);
  }
  line("total", measured.memory.peak_total);
  return report;
}

/// The first of the method's networks for volumes, or for slices where the patch is one; empty when it has
/// none. Methods that take any network get the one of the options.
std::string network_of(const MethodInfo& info, const BenchOptions& options) {
  if (info.networks.empty()) return options.network.name;
  for (const std::string& name : info.networks) {
    const bool slices = make_network({.name = name})->divisor()[0] == 1;
    if (slices == (options.patch[0] == 1)) return name;
  }
  return "";
}

BenchReport bench_methods(const BenchOptions& options) {
  std::vector<std::string> names{"supervised"};
  for (const MethodInfo& info : registered_methods()) {
    if (info.name != names.front()) names.push_back(info.name);
  }
  BenchReport report;
  std::printf("%-14s %-18s %10s %10s %12s %10s\n", "method", "network", "s", "/supervised", "peak",
              "/supervised");
  double first_seconds = 0, first_peak = 0;
  for (const std::string& name : names) {
    BenchOptions own = options;
    own.method = name;
    own.network.name = network_of(find_method(name), options);
    if (own.network.name.empty()) continue;
    release_cached_memory(options.device);
    const Measured measured = method_iteration(own, report.details);
    const double seconds = measured.seconds[0];
    const auto peak = static_cast<double>(measured.memory.peak_total);
    if (first_seconds == 0) first_seconds = seconds, first_peak = peak;
    std::printf("%-14s %-18s %10.4f %10.2f %12s %10.2f\n", name.c_str(), own.network.name.c_str(), seconds,
                seconds / first_seconds, format_bytes(measured.memory.peak_total).c_str(), peak / first_peak);
    std::fflush(stdout);
    report.rows.push_back({{"method", name},
                           {"network", own.network.name},
                           {"seconds", seconds},
                           {"times_supervised", seconds / first_seconds},
                           {"peak_bytes", measured.memory.peak_total},
                           {"peak_times_supervised", peak / first_peak}});
  }
  report.details.clear();
  return report;
}

BenchReport bench_scaling(const BenchOptions& options) {
  BenchReport report;
  std::printf("%-14s %12s %10s %12s %12s %14s\n", "patch", "voxels", "step s", "ns/voxel", "peak",
              "bytes/voxel*");
  for (const BenchOptions::Extent& patch : options.patches) {
    BenchOptions sized = options;
    sized.patch = patch;
    release_cached_memory(options.device);
    const Measured measured = supervised_step(sized);
    const MemoryStatistics& memory = measured.memory;
    const int64_t count = sized.shape(1).rows();
    const auto voxels = static_cast<double>(count);
    const double seconds = measured.seconds.back();
    const int64_t fixed = memory.peak[static_cast<int>(MemoryTag::weights)] +
                          memory.peak[static_cast<int>(MemoryTag::optimizer)];
    const double bytes_per_voxel = static_cast<double>(memory.peak_total - fixed) / voxels;
    std::printf("%-14s %12.0f %10.4f %12.1f %12s %14.1f\n", extent_text(patch).c_str(), voxels, seconds,
                seconds / voxels * 1e9, format_bytes(memory.peak_total).c_str(), bytes_per_voxel);
    std::fflush(stdout);
    report.rows.push_back({{"patch", extent_text(patch)},
                           {"voxels", count},
                           {"seconds", seconds},
                           {"ns_per_voxel", seconds / voxels * 1e9},
                           {"peak_bytes", memory.peak_total},
                           {"bytes_per_voxel", bytes_per_voxel}});
  }
  std::printf("* without weights, gradients and the optimizer's state, which do not grow\n");
  return report;
}

}  // namespace semivox
