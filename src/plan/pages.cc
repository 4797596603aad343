#include "plan/pages.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "architectures/known_models.h"
#include "plan/architecture_subject.h"
#include "plan/bit_axon_subject.h"
#include "plan/pages_parts.h"
#include "plan/report.h"
#include "plan/solve.h"

namespace axon {
namespace pages {
namespace {

constexpr std::size_t kColumns = 116;

}  // namespace

void Markdown::gap() {
  if (!text_.empty()) text_ += '\n';
  in_list_ = false;
}

void Markdown::heading(int level, std::string_view text) {
  gap();
  text_ += fmt::format("{} {}\n", std::string(static_cast<std::size_t>(level), '#'), text);
}

void Markdown::wrapped(std::string_view text, std::string_view first, std::string_view next) {
  std::string line(first);
  bool empty = true;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!empty && line.size() + 1 + word.size() > kColumns) {
      text_ += line + '\n';
      line = next;
      empty = true;
    }
    if (!empty) line += ' ';
    line += word;
    empty = false;
  }
  text_ += line + '\n';
}

void Markdown::paragraph(std::string_view text) {
  gap();
  wrapped(text, "", "");
}

void Markdown::bullet(std::string_view text) {
  if (!in_list_) gap();
  wrapped(text, "- ", "  ");
  in_list_ = true;
}

void Markdown::code(std::string_view lines) {
  gap();
  text_ += fmt::format("```sh\n{}\n```\n", lines);
}

void Markdown::table(const std::vector<std::vector<std::string>>& rows, std::string_view align) {
  gap();
  std::vector<std::size_t> widths(align.size(), 3);
  for (const auto& row : rows) {
    AXON_CHECK(row.size() == align.size());
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::size_t c = 0; c < widths.size(); ++c) {
      const std::string_view form = align[c] == 'r' ? "| {:>{}} " : "| {:<{}} ";
      text_ += fmt::format(fmt::runtime(form), rows[r][c], widths[c]);
    }
    text_ += "|\n";
    if (r != 0) continue;
    for (std::size_t c = 0; c < widths.size(); ++c) {
      text_ +=
          align[c] == 'r' ? fmt::format("|{:->{}}:", "", widths[c] + 1) : fmt::format("|{:->{}}", "", widths[c] + 2);
    }
    text_ += "|\n";
  }
}

std::string mib(Bytes bytes) {
  const double n = static_cast<double>(bytes.count) / 0x1p20;
  if (bytes == 0_B) return "0";
  if (n < 10) return fmt::format("{:.2f}", n);
  if (n < 100) return fmt::format("{:.1f}", n);
  return grouped(static_cast<std::uint64_t>(n + 0.5));
}

std::string size(Bytes bytes) {
  if (bytes < 1024_GiB) return to_string(bytes);
  return fmt::format("{:.2f} TiB", static_cast<double>(bytes.count) / 0x1p40);
}

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

std::string billions(std::uint64_t parameters) {
  const double n = static_cast<double>(parameters);
  return n < 1e9 ? fmt::format("{:.0f} M", n / 1e6) : fmt::format("{:.2f} B", n / 1e9);
}

Result<OurModel> our_model(std::string_view preset_name, const SubjectOptions& options) {
  // Absent, it is an error and not left out: the numbers would differ by it.
  const std::filesystem::path tokenizer = std::filesystem::path(options.default_model) / "tokenizer.json";
  OurModel model;
  model.config = AXON_TRY(preset(preset_name));
  model.subject = AXON_TRY(bit_axon_config(model.config, std::string(preset_name), "preset", tokenizer.string()));
  return model;
}

// Not by open_subject: a folder of the same name must not change the page.
std::unique_ptr<Subject> known_model(std::string_view name) {
  const KnownModel* known = find_known_model(name);
  AXON_CHECK(known != nullptr);
  Result<JsonValue> config = read_json_value(known->config, known->name);
  AXON_CHECK(config.ok());
  Result<Architecture> architecture = read_architecture(config.value(), known->name);
  AXON_CHECK(architecture.ok());
  ForeignModel model;
  model.architecture = std::move(architecture).value();
  model.target = known->name;
  model.title = known->title;
  model.evidence = "known model";
  model.source = known->source;
  return foreign_subject(std::move(model));
}

std::unique_ptr<Subject> bare_size(std::string_view size) { return bare_size(size, 0, 0); }

std::unique_ptr<Subject> bare_size(std::string_view size, std::uint64_t layers, std::uint64_t hidden_size) {
  const std::optional<std::uint64_t> parameters = parse_parameter_count(size);
  AXON_CHECK(parameters.has_value());
  return size_subject({.target = std::string(size),
                       .parameters = *parameters,
                       .fallback = layers != 0,
                       .layers = layers,
                       .hidden_size = hidden_size});
}

RunChoice choice(std::uint64_t context, std::string_view weights, std::string_view kv,
                 std::optional<std::uint64_t> window) {
  RunChoice run;
  run.context = context;
  run.weights = weights;
  run.kv = kv;
  run.window = window;
  run.threads = 2;
  return run;
}

Footprint plan(const Subject& subject, const RunChoice& run) {
  Result<Footprint> footprint = subject.footprint(run);
  AXON_CHECK(footprint.ok());
  return std::move(footprint).value();
}

Bytes total(const Subject& subject, const RunChoice& run) { return plan(subject, run).total(); }

Bytes account_bytes(const Footprint& footprint, std::string_view name) {
  const Account* found = footprint.find(name);
  return found == nullptr ? Bytes{} : found->bytes;
}

Bytes weights(const Footprint& footprint) {
  Bytes sum;
  for (const Account& a : footprint.accounts) sum += a.name.starts_with("weights") ? a.bytes : Bytes{};
  return sum;
}

Bytes sequence(const Footprint& footprint) {
  Bytes sum;
  for (const char* name : {"kv cache", "ssm state", "recurrent state", "conv state"})
    sum += account_bytes(footprint, name);
  return sum;
}

Footprint trained(const Subject& subject, const TrainChoice& training) {
  TrainChoice two_threads = training;
  two_threads.threads = 2;
  Result<Footprint> footprint = train_footprint(subject, two_threads);
  AXON_CHECK(footprint.ok());
  return std::move(footprint).value();
}

std::optional<std::uint64_t> longest_context(const Subject& subject, const RunChoice& run, Bytes budget) {
  Result<Solution> solution = solve(subject, SolveFor::kContext, run, {}, budget);
  AXON_CHECK(solution.ok());
  if (!solution.value().best) return std::nullopt;
  return solution.value().best->run.context;
}

}  // namespace pages

std::span<const std::string_view> page_names() {
  static constexpr std::array<std::string_view, 3> kNames = {"memory-budget", "memory-101", "models"};
  return kNames;
}

Result<std::string> page_text(std::string_view name, const SubjectOptions& options) {
  const auto names = page_names();
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    return make_error(ErrorCode::kInvalidArgument, "unknown page \"{}\": there are {}", name, fmt::join(names, ", "));
  }
  if (name == "models") return pages::models_page();
  const pages::OurModel three = AXON_TRY(pages::our_model("3b", options));
  const pages::OurModel six = AXON_TRY(pages::our_model("6b", options));
  return name == "memory-101" ? pages::memory_101_page(three, six) : pages::memory_budget_page(three, six);
}

}  // namespace axon
