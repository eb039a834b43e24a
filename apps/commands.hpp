// The subcommands of the program. Each function adds one to the command line, with its options and what it
// does.
#pragma once

#include <string>

#include "engine/device.hpp"

namespace CLI {
class App;
}

namespace semivox {

void add_train_command(CLI::App& app);
void add_predict_command(CLI::App& app);
void add_evaluate_command(CLI::App& app);
void add_compare_command(CLI::App& app);
void add_data_command(CLI::App& app);
void add_methods_command(CLI::App& app);
void add_bench_command(CLI::App& app);
void add_info_command(CLI::App& app);

/// `parse_device`, and one line on stderr when "auto" has to settle for the CPU in a program built for CUDA.
Device choose_device(const std::string& word);

}  // namespace semivox
