// `semivox train`: one run of one method.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>

#include "apps/commands.hpp"
#include "apps/training_options.hpp"
#include "apps/training_run.hpp"
#include "engine/error.hpp"

namespace semivox {

namespace {

void report(const RunOutcome& outcome, const std::string& folder) {
  const TrainingResult& t = outcome.training;
  if (t.iterations > 0) {
    const double stepping = t.seconds - t.validation_seconds;
    std::printf("%lld iterations in %.1f s (%.3f s each; waiting for data %.2f %%; validation %.1f s)\n",
                static_cast<long long>(t.iterations), t.seconds, stepping / static_cast<double>(t.iterations),
                100 * t.data_seconds / stepping, t.validation_seconds);
  }
  if (t.best_dice >= 0) std::printf("best validation Dice %.4f (checkpoints/best)\n", t.best_dice);
  std::fflush(stdout);
  if (outcome.evaluation)
    std::cout << "final weights on the validation cases:\n" << format_table(*outcome.evaluation);
  std::cout << "run folder: " << folder << std::endl;
}

}  // namespace

void add_train_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("train", "Train a network by one of the methods (see `semivox methods`)");
  struct Arguments {
    std::string method;
    RunRequest request;
    bool dry_run = false;
  };
  const auto arguments = std::make_shared<Arguments>();
  const auto options = add_training_options(*command);
  command->add_option("--method", arguments->method, "method")->group("Training");
  command->add_option("--out", arguments->request.folder, "run folder");
  command->add_flag("--resume", arguments->request.resume,
                    "continue the run in --out after its last checkpoint");
  command->add_flag("--profile", arguments->request.profile, "print time per op and peak memory at the end");
  command->add_flag("--save-predictions", arguments->request.save_predictions,
                    "keep label maps and pictures of the validation cases in results/");
  command->add_flag("--dry-run", arguments->dry_run,
                    "make two iterations of every phase, print time and peak memory, write nothing");
  command->callback([arguments, options] {
    if (!arguments->method.empty()) options->given.emplace_back("train.method", arguments->method);
    RunConfig config = options->resolve();
    for (const char* key : {"train.method", "data.folder"}) {
      if (config.value(key).empty()) {
        throw UsageError(text(key == std::string("data.folder") ? "--data" : "--method",
                              ": missing; give it on the command line or as ", key, " in --config"));
      }
    }
    config.keep_options_of(config.value("train.method"), false);
    if (arguments->dry_run) return rehearse_run(config);
    if (arguments->request.folder.empty()) throw UsageError("--out: missing, expected a run folder");
    const std::string& folder = arguments->request.folder;
    if (arguments->request.resume && !has_state(folder))
      std::cout << folder << ": holds no state to resume" << std::endl;
    try {
      report(execute_run(config, arguments->request), folder);
    } catch (const Interrupted& stopped) {
      throw Interrupted(text(stopped.what(), "; --resume goes on"));
    }
  });
}

}  // namespace semivox
