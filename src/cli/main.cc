#include "cli/commands.h"

int main(int argc, char** argv) { return axon::cli::run_program(argc, argv); }
