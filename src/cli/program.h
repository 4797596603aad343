#pragma once
// Parts of the command line that have files of their own.

#include <CLI/CLI.hpp>

#include "cli/commands.h"

namespace axon::cli {

void add_train(CLI::App& program, TrainOptions& options);

}  // namespace axon::cli
