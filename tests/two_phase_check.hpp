// Methods of two phases, pre-training and self-training, on a tiny problem: as tests/method_check.hpp, with
// what the trainer does between the phases.
#pragma once

#include "tests/method_check.hpp"

namespace semivox::testing {

/// As many labelled as unlabelled samples; three iterations of each phase.
struct TwoPhaseProblem : TinyProblem {
  MethodSetup setup() const {
    MethodSetup made = TinyProblem::setup();
    made.batch = batch.n / 2;
    return made;
  }
  Batch data(const Phase& phase) const {
    const Batch all = TinyProblem::data(batch.n / 2);
    const int64_t count = phase.labeled + phase.unlabeled;
    return {all.image.samples(0, count), all.label.samples(0, count), phase.labeled};
  }
};

/// Reports of the iterations first ... last-1, counted over both phases.
inline std::vector<StepReport> run_phases(Method& method, const TwoPhaseProblem& problem, int64_t first,
                                          int64_t last) {
  const MethodSetup setup = problem.setup();
  const std::vector<Phase> phases = method.phases(setup);
  std::vector<StepReport> reports;
  for (int64_t t = first; t < last; ++t) {
    const int64_t p = t < phases[0].iterations ? 0 : 1;
    const int64_t iteration = t - p * phases[0].iterations;
    if (p > 0 && iteration == 0) method.begin_phase(p);
    const Phase& phase = phases[static_cast<size_t>(p)];
    Random random(setup.seed, static_cast<uint64_t>(t) + 1);
    reports.push_back(
        method.step(problem.data(phase), {p, iteration, phase.learning_rate.at(iteration), &random}));
  }
  return reports;
}

/// Finite terms, a loss that falls in pre-training, the same numbers of two builds, and a run that goes on
/// from a checkpoint in self-training, and from one between the phases, bit for bit. Returns the reports.
inline std::vector<StepReport> check_two_phases(const std::string& name,
                                                std::map<std::string, std::string> options,
                                                const TwoPhaseProblem& problem) {
  INFO(name, " with ", problem.network.name);
  const OneThread one_thread;
  options["pretrain"] = "0.5";
  const MethodSetup setup = problem.setup();
  const auto method = build_method(name, options, setup);
  const std::vector<StepReport> reports = run_phases(*method, problem, 0, 6);
  for (const StepReport& report : reports) {
    CHECK(report[0].first == "loss");
    for (const auto& [term, value] : report) {
      INFO(term);
      CHECK(std::isfinite(value));
    }
  }
  CHECK(reports[2][0].second < reports[0][0].second);

  for (const int64_t done : {3, 5}) {
    CAPTURE(done);
    const TemporaryFolder folder;
    const auto interrupted = build_method(name, options, setup);
    run_phases(*interrupted, problem, 0, done);
    save_checkpoint(folder / "latest.safetensors", *interrupted, {1, done - 3, -1, -1}, {});
    MethodSetup other = setup;
    other.seed += 1;  // first weights must not matter
    const auto resumed = build_method(name, options, other);
    CHECK(load_checkpoint(folder / "latest.safetensors", *resumed, {}).iteration == done - 3);
    const std::vector<StepReport> rest = run_phases(*resumed, problem, done, 6);
    for (size_t i = 0; i < rest.size(); ++i) CHECK(rest[i] == reports[static_cast<size_t>(done) + i]);
    CHECK(weights_of(*resumed) == weights_of(*method));
  }
  return reports;
}

/// The report of the first self-training iteration of a new method, after no pre-training.
inline StepReport first_selftraining(const std::string& name, std::map<std::string, std::string> options,
                                     const TwoPhaseProblem& problem) {
  options["pretrain"] = "0";
  const auto method = build_method(name, options, problem.setup());
  return run_phases(*method, problem, 0, 1)[0];
}

}  // namespace semivox::testing
