#pragma once
// How help is laid out: in lines of at most 80 columns, where CLI11 of itself breaks none.

#include <CLI/CLI.hpp>

#include <string>

namespace axon::cli {

class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option(const CLI::Option* option, bool is_positional) const override;
  std::string make_subcommand(const CLI::App* command) const override;
};

}  // namespace axon::cli
