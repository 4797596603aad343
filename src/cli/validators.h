#pragma once
// What options may be: judged while the command line is read.

#include <CLI/CLI.hpp>

#include <charconv>
#include <limits>
#include <string>
#include <system_error>
#include <vector>

#include "base/error.h"

namespace axon::cli {

// Values are judged while the command line is read, so that a wrong one is wrong usage and named with its option.
// CLI11's own number checks take "-3" and what is too large for numbers of 20 digits, and nothing for 0.
inline CLI::Validator whole_number(std::uint64_t min = 0,
                                   std::uint64_t max = std::numeric_limits<std::uint64_t>::max()) {
  return CLI::Validator(
      [min, max](std::string& text) {
        std::uint64_t number = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
        if (error != std::errc() || end != text.data() + text.size()) {
          return fmt::format("expected a whole number, but got \"{}\"", text);
        }
        if (number >= min && number <= max) return std::string();
        return fmt::format("expected a number from {} to {}, but got {}", min, max, number);
      },
      "");
}

inline CLI::Validator real_number(double min, double max) {
  return CLI::Validator(
      [min, max](std::string& text) {
        double number = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
        if (error == std::errc() && end == text.data() + text.size() && number >= min && number <= max)
          return std::string();
        return fmt::format("expected a number from {} to {}, but got \"{}\"", min, max, text);
      },
      "");
}

// What a parser of ours says of a text.
template <class Parse>
CLI::Validator parsed_by(Parse parse) {
  return CLI::Validator(
      [parse](std::string& text) {
        const auto result = parse(text);
        return result.ok() ? std::string() : result.error().message;
      },
      "");
}

inline std::vector<std::string> parts_of(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == ',') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

// What a parser of ours says of each part between commas. CLI11's delimiter() passes over an empty one, a slip.
template <class Parse>
CLI::Validator list_of(Parse parse) {
  return CLI::Validator(
      [parse](std::string& text) {
        for (const std::string& part : parts_of(text)) {
          const auto result = parse(part);
          if (!result.ok()) return result.error().message;
        }
        return std::string();
      },
      "");
}

// Given again, it goes on.
inline CLI::Option* add_list(CLI::App* app, const std::string& name, std::vector<std::string>& to,
                             const std::string& help) {
  return app->add_option_function<std::vector<std::string>>(
      name,
      [&to](const std::vector<std::string>& texts) {
        to.clear();
        for (const std::string& text : texts) {
          for (std::string& part : parts_of(text)) to.push_back(std::move(part));
        }
      },
      help);
}

inline Status check_not_empty(std::string_view text) {
  if (!text.empty()) return Ok{};
  return make_error(ErrorCode::kInvalidArgument, "expected a name, but got \"\"");
}

}  // namespace axon::cli
