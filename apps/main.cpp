// The program: parses the command line, runs one subcommand, turns errors into one line and an exit code.
//
// Exit codes: 0 success, 1 defect of the program, 2 wrong usage, 3 unusable data, 4 out of memory, 5
// interrupted but saved.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <new>
#include <nlohmann/json.hpp>
#include <string>

#include "apps/commands.hpp"
#include "build_info.hpp"
#include "engine/error.hpp"
#include "engine/parallel.hpp"

namespace {

/// "semivox data synth": the program and the subcommands that were recognised.
std::string command_path(const CLI::App& app) {
  std::string path = "semivox";
  const CLI::App* level = &app;
  while (!level->get_subcommands().empty()) {
    level = level->get_subcommands().front();
    path += " " + level->get_name();
  }
  return path;
}

int report(const std::string& message, int exit_code) {
  std::cout.flush();
  std::cerr << "semivox: error: " << message << std::endl;
  return exit_code;
}

/// A file opened on descriptor 1 would get what is printed: closed standard streams become /dev/null.
void open_standard_streams() {
  while (true) {
    const int descriptor = open("/dev/null", O_RDWR);
    if (descriptor < 0 || descriptor > 2) {
      if (descriptor > 2) close(descriptor);
      return;
    }
  }
}

int run(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
    std::cout.flush();
    if (!std::cout || std::fflush(stdout) != 0) return report("standard output: cannot be written", 3);
    return 0;
  } catch (const CLI::Success& request) {  // --help and --version
    return app.exit(request);
  } catch (const CLI::ParseError& error) {
    return report(semivox::text(error.what(), " (see '", command_path(app), " --help')"), 2);
  } catch (const semivox::Error& error) {
    return report(error.what(), error.exit_code);
  } catch (const std::bad_alloc&) {
    return report("out of memory on the host: try a smaller --patch, --batch or --filters", 4);
  } catch (const std::filesystem::filesystem_error& error) {
    return report(semivox::text(error.path1().string(), ": ", error.code().message()), 3);
  } catch (const nlohmann::json::exception& error) {  // what is read is checked: names that are no UTF-8
    return report(semivox::text("a JSON file cannot be read or written: ", error.what(),
                                " (names of files and cases must be UTF-8)"),
                  3);
  } catch (const std::exception& error) {
    return report(error.what(), 1);
  }
}

/// GNU OpenMP lets waiting threads spin for some 16 ms before they sleep. On a machine that has other work to
/// do that makes every short parallel region as long (steps took 3 to 10 times their time); a fiftieth of it
/// costs nothing on an idle one. libgomp reads the setting when it is loaded, so the program starts itself
/// once more with it.
void start_with_short_spins(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  setenv("GOMP_SPINCOUNT", "6000", 1);
  execv("/proc/self/exe",
        argv);  // returns only when it fails; then the setting is as it was, slower on a busy machine
}

}  // namespace

int main(int argc, char** argv) {
  open_standard_streams();
  start_with_short_spins(argv);
  CLI::App app(
      "Semi-supervised segmentation of medical images, volumes and slices: train, predict, evaluate.",
      "semivox");
  app.require_subcommand(1);
  app.fallthrough();  // lets --threads stand after the subcommand, too
  app.set_version_flag("--version", std::string("semivox ") + semivox::build::kVersion);
  app.add_option_function<int>(
         "--threads", [](int threads) { semivox::set_thread_count(threads); },
         "CPU threads (default: as many as the machine has)")
      ->check(CLI::Range(1, 4096));

  semivox::add_train_command(app);
  semivox::add_predict_command(app);
  semivox::add_evaluate_command(app);
  semivox::add_compare_command(app);
  semivox::add_data_command(app);
  semivox::add_methods_command(app);
  semivox::add_bench_command(app);
  semivox::add_info_command(app);
  return run(app, argc, argv);
}
