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
    reports.push_back(checked_step(method, problem.data(phase),
                                   {p, iteration, phase.learning_rate.at(iteration), &random}));
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
  CHECK(reports[2][0].second < reports[0][0].second);

  for (const int64_t done : {3, 5}) {
    CAPTURE(done);
    const auto interrupted = build_method(name, options, setup);
    std::vector<StepReport> again = run_phases(*interrupted, problem, 0, done);
    const auto resumed = reload(*interrupted, name, options, setup, {1, done - 3});
    for (const StepReport& report : run_phases(*resumed, problem, done, 6)) again.push_back(report);
    CHECK(again == reports);
    CHECK(state_of(*resumed) == state_of(*method));
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
