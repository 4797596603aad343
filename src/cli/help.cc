#include "cli/help.h"

#include <sstream>
#include <string_view>

namespace axon::cli {
namespace {

constexpr std::size_t kColumns = 80;
constexpr std::size_t kNameIndent = 2, kNameGoesOn = 6;  // format_help begins a name with two spaces

// Breaks at spaces so that no line, the first one `taken` columns short, passes `columns`. Longer words stay whole.
std::string filled(std::string_view text, std::size_t columns, std::size_t goes_on = 0, std::size_t taken = 0) {
  std::string out;
  std::size_t at = taken;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    if (!out.empty()) {
      const bool fits = at + 1 + end <= columns;
      out += fits ? " " : "\n" + std::string(goes_on, ' ');
      at = fits ? at + 1 : goes_on;
    }
    out += text.substr(0, end);
    at += end;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

std::string row(const std::string& name, const std::string& description, std::size_t column) {
  std::ostringstream out;
  CLI::detail::format_help(out, filled(name, kColumns, kNameGoesOn, kNameIndent),
                           filled(description, kColumns - column), column);
  return out.str();
}

}  // namespace

std::string HelpFormatter::make_option(const CLI::Option* option, bool is_positional) const {
  return row(make_option_name(option, is_positional) + make_option_opts(option), make_option_desc(option),
             column_width_);
}

std::string HelpFormatter::make_subcommand(const CLI::App* command) const {
  return row(command->get_display_name(true), command->get_description(), column_width_);
}

}  // namespace axon::cli
