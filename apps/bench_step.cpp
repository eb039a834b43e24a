#include <cstdio>
#include <iostream>
#include <memory>

#include "apps/bench.hpp"
#include "engine/memory.hpp"
#include "engine/optimizer.hpp"
#include "engine/random.hpp"
#include "methods/method.hpp"
#include "methods/supervised_loss.hpp"

namespace semivox {
namespace {

using Json = nlohmann::ordered_json;

/// Seconds of the named parts of every timed iteration.
struct Timings {
  std::vector<std::string> names;
  std::vector<std::vector<double>> seconds;  // by part

  Json report() const {
    Json medians = Json::object();
    for (size_t i = 0; i < names.size(); ++i) {
      medians[names[i]] = median(seconds[i]);
      std::printf("%-10s %10.4f s\n", names[i].c_str(), median(seconds[i]));
    }
    return medians;
  }
};

Json report_memory(Device device) {
  const MemoryStatistics memory = memory_statistics(device);
  Json peak = Json::object();
  for (int tag = 0; tag < kMemoryTags; ++tag) {
    const char* name = name_of(static_cast<MemoryTag>(tag));
    peak[name] = memory.peak[tag];
    std::printf("peak %-12s %12s\n", name, format_bytes(memory.peak[tag]).c_str());
  }
  peak["total"] = memory.peak_total;
  std::printf("peak %-12s %12s\n", "total", format_bytes(memory.peak_total).c_str());
  return peak;
}

/// Runs `iteration(i)` once untimed, then timed, then once for the table.
template <class F>
Json measure(const BenchOptions& options, std::vector<std::string> parts, const F& iteration) {
  Timings timings{std::move(parts), {}};
  timings.seconds.resize(timings.names.size());
  iteration(0);
  reset_peak_memory(options.device);
  for (int64_t i = 1; i <= options.iterations; ++i) {
    const std::vector<double> seconds = iteration(i);
    for (size_t part = 0; part < seconds.size(); ++part) timings.seconds[part].push_back(seconds[part]);
  }
  Json report;
  report["median_seconds"] = timings.report();
  report["peak_bytes"] = report_memory(options.device);
  if (options.profile) {
    enable_profile(true);
    iteration(options.iterations + 1);
    std::cout << profile_table();
    enable_profile(false);
  }
  return report;
}

/// Seconds since `start`, with the device's work done; moves `start`.
double lap(Device device, double& start) {
  synchronize(device);
  const double now = now_seconds(), seconds = now - start;
  start = now;
  return seconds;
}

Json supervised_step(const BenchOptions& options) {
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

Json method_step(const BenchOptions& options) {
  const Device device = options.device;
  OptionReader reader;
  const std::unique_ptr<Method> method = find_method(options.method).make(reader);
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
  std::printf("method %s, phase %s: %lld labelled + %lld unlabelled samples\n", options.method.c_str(),
              phase.name.c_str(), static_cast<long long>(phase.labeled),
              static_cast<long long>(phase.unlabeled));
  Json report = measure(options, {"iteration"}, [&](int64_t i) {
    Random random(1, static_cast<uint64_t>(i));
    synchronize(device);
    double start = now_seconds();
    method->step(batch, {last, i, 0.01, &random});
    return std::vector<double>{lap(device, start)};
  });
  report["method"] = options.method;
  report["phase"] = phase.name;
  report["labeled"] = phase.labeled;
  report["unlabeled"] = phase.unlabeled;
  return report;
}

}  // namespace

Json bench_step(const BenchOptions& options) {
  return options.method.empty() ? supervised_step(options) : method_step(options);
}

}  // namespace semivox
