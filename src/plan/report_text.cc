#include <algorithm>
#include <cmath>

#include "plan/report_words.h"

namespace axon {
namespace {

constexpr std::size_t kMaxBar = 30, kMinBar = 8;

class Terminal {
 public:
  explicit Terminal(const TextStyle& style) : style_(style) {}

  std::string bold(std::string_view text) const { return paint(text, "1"); }
  std::string dim(std::string_view text) const { return paint(text, "2"); }
  std::string good(std::string_view text) const { return paint(text, "32"); }
  std::string bad(std::string_view text) const { return paint(text, "31"); }
  std::size_t columns() const { return style_.columns; }

  // Spaces at the end are dropped.
  void line(std::string_view text = {}) {
    out_ += text.substr(0, text.find_last_not_of(' ') + 1);
    out_ += '\n';
  }
  std::string take() { return std::move(out_); }

 private:
  std::string paint(std::string_view text, std::string_view code) const {
    return style_.colour && !text.empty() ? fmt::format("\x1b[{}m{}\x1b[0m", code, text) : std::string(text);
  }
  TextStyle style_;
  std::string out_;
};

std::string left(std::string_view text, std::size_t width) {
  return std::string(text) + std::string(width - std::min(width, display_width(text)), ' ');
}
std::string right(std::string_view text, std::size_t width) {
  return std::string(width - std::min(width, display_width(text)), ' ') + std::string(text);
}

template <class Items, class Text>
std::size_t widest(const Items& items, Text text, std::size_t least = 0) {
  for (const auto& item : items) least = std::max(least, display_width(text(item)));
  return least;
}

// In eighths of a column; something is never shown as nothing.
std::string bar(Bytes part, Bytes largest, std::size_t width) {
  static constexpr std::string_view kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  if (part.count == 0 || width == 0) return "";
  const double share = static_cast<double>(part.count) / static_cast<double>(largest.count);
  const auto eighths = static_cast<std::size_t>(std::max(1.0, std::round(share * static_cast<double>(8 * width))));
  std::string out;
  for (std::size_t i = 0; i < eighths / 8; ++i) out += "█";
  return out + std::string(kEighths[eighths % 8]);
}

void add_rows(Terminal& out, const std::vector<ReportRow>& rows) {
  static constexpr std::size_t kName = 15;
  std::string_view last;
  for (const ReportRow& row : rows) {
    std::string text = "  " + left(row.name == last ? "" : row.name, kName);
    const std::size_t indent = 2 + kName;
    for (std::size_t i = 0; i < row.values.size(); ++i) {
      const std::string value = row.values[i] + (i + 1 < row.values.size() ? "," : "");
      if (i > 0 && display_width(text) + 1 + display_width(value) > out.columns()) {
        out.line(text);
        text = std::string(indent, ' ') + value;
      } else {
        text += (i > 0 ? " " : "") + value;
      }
    }
    out.line(text);
    last = row.name;
  }
}

void add_accounts(Terminal& out, const Footprint& footprint) {
  const Bytes total = footprint.total();
  const auto size = [](const Account& a) { return size_words(a.bytes, a.estimate); };
  const std::string sum = size_words(total, footprint.estimate());
  const std::size_t names = widest(
      footprint.accounts, [](const Account& a) { return printable(a.name); }, 5);
  const std::size_t sizes = widest(footprint.accounts, size, display_width(sum));
  static constexpr std::size_t kShare = 5;
  const std::size_t used = 2 + names + 2 + sizes + 2 + kShare + 2;
  const std::size_t room = out.columns() > used ? std::min(kMaxBar, out.columns() - used) : 0;
  const std::size_t bars = room < kMinBar ? 0 : room;
  for (const Account& account : footprint.accounts) {
    out.line(fmt::format("  {}  {}  {}  {}", left(printable(account.name), names), right(size(account), sizes),
                         right(share_words(account.bytes, total), kShare),
                         bar(account.bytes, footprint.largest().bytes, bars)));
  }
  out.line("  " + out.bold(left("total", names) + "  " + right(sum, sizes)));
}

void add_matrix(Terminal& out, const PlanReport& report) {
  const auto size = [](const PlanCell& c) { return size_words(c.footprint.total(), c.footprint.estimate()); };
  const auto context = [&](std::uint64_t c) { return context_words(report, c); };
  const bool several_kv = report.kv.size() > 1;
  const std::size_t weights_width = widest(report.weights, weights_words, display_width("weights"));
  const std::size_t kv_width = several_kv ? widest(report.kv, printable, 2) + 2 : 0;
  const std::size_t width = widest(report.contexts, context, widest(report.cells, size));
  static constexpr std::size_t kMark = 3;  // " ok", " x "
  const std::size_t labels = 2 + weights_width + kv_width, cell_width = 2 + width + kMark;
  const std::size_t contexts = report.contexts.size();
  const std::size_t room = out.columns() > labels ? (out.columns() - labels) / cell_width : 0;
  const std::size_t block = std::clamp<std::size_t>(room, 1, contexts);
  for (std::size_t from = 0; from < contexts; from += block) {
    const std::size_t end = std::min(from + block, contexts);
    if (from > 0) out.line();
    std::string head = left("weights", weights_width) + (several_kv ? left("  kv", kv_width) : "");
    for (std::size_t c = from; c < end; ++c) {
      head += "  " + right(context(report.contexts[c]), width) + std::string(kMark, ' ');
    }
    out.line("  " + out.dim(head.substr(0, head.find_last_not_of(' ') + 1)));
    for (std::size_t row = 0; row < report.cells.size() / contexts; ++row) {
      std::string text = "  " + left(weights_words(report.weights[row % report.weights.size()]), weights_width);
      if (several_kv) text += left("  " + printable(report.kv[row / report.weights.size()]), kv_width);
      for (std::size_t c = from; c < end; ++c) {
        const PlanCell& cell = report.cells[row * contexts + c];
        const std::string sum = right(size(cell), width);
        text += "  " + (cell.fits ? out.good(sum + " ok") : out.bad(sum + " x") + " ");
      }
      out.line(text);
    }
  }
}

void add_verdict(Terminal& out, const PlanReport& report) {
  const Verdict v = verdict(report);
  out.line((v.fits ? out.good("fits") : out.bad("does not fit")) + ": " + v.text);
  for (const std::string& more : v.more) out.line("  " + more);
}

void add_smaller_kv(Terminal& out, const PlanReport& report) {
  const SmallerKvWords words = smaller_kv_words(report);
  if (!words.instead.empty()) out.line("note: " + words.instead);
  if (words.rows.empty()) return;
  const std::size_t kv = widest(words.rows, [](const SmallerKvWords::Row& row) { return row.kv; });
  const std::size_t bytes = widest(words.rows, [](const SmallerKvWords::Row& row) { return row.bytes; });
  const std::size_t saved = widest(words.rows, [](const SmallerKvWords::Row& row) { return row.saved; });
  out.line();
  out.line(out.bold("smaller kv caches"));
  for (const SmallerKvWords::Row& row : words.rows) {
    out.line(fmt::format("  --kv {}  {}  saves {}{}", left(row.kv, kv), right(row.bytes, bytes),
                         right(row.saved, saved), row.cost.empty() ? "" : "  " + row.cost));
  }
  if (!words.source.empty()) out.line("  (" + words.source + ")");
}

void add_solution(Terminal& out, const PlanReport& report, const Solution& solution) {
  const SolutionWords words = solution_words(report, solution);
  out.line();
  out.line(out.bold(words.heading));
  if (!words.nothing.empty()) return out.line("  " + out.bad(words.nothing));
  const std::size_t what = widest(words.rows, [](const SolutionWords::Row& row) { return row.what; });
  const std::size_t total = widest(words.rows, [](const SolutionWords::Row& row) { return row.total; });
  for (const SolutionWords::Row& row : words.rows) {
    out.line(fmt::format("  {}  {}  {}", left(row.rank, 7), left(row.what, what), right(row.total, total)));
    out.line("           " + row.command);
  }
}

void add_plan(Terminal& out, const PlanReport& report) {
  if (report.training) {
    out.line();
    out.line(out.bold("training") + ": " + train_words(report));
    out.line();
    add_accounts(out, *report.training);
  } else if (report.cells.size() == 1) {
    out.line();
    out.line(choice_words(report, report.cells.front().choice, false));
    out.line();
    add_accounts(out, report.cells.front().footprint);
  } else if (!report.cells.empty()) {
    out.line();
    const std::string rest = choice_words(report, report.cells.front().choice, true);
    out.line("memory over context in tokens" + (rest.empty() ? "" : "; " + rest));
    out.line();
    add_matrix(out, report);
  }
}

struct ExplainWidths {
  std::size_t text = 3, bytes = 0, size = 0;
};

void add_terms(std::string& out, const Account& account, const ExplainWidths& widths) {
  const auto line = [&](std::string_view text, Bytes bytes) {
    out += fmt::format("  {}  {}  {}\n", left(text, widths.text), right(grouped(bytes.count) + " B", widths.bytes),
                       right(to_string(bytes), widths.size));
  };
  out += fmt::format("{}{}\n", printable(account.name), account.estimate ? ", an estimate" : "");
  Bytes sum;
  for (const Term& term : account.terms) {
    line(printable(term.text), term.bytes);
    sum += term.bytes;
  }
  AXON_CHECK(account.terms.empty() || sum == account.bytes);
  line("sum", account.bytes);
}

// The account of that name, or those that begin with it: "weights" is all of them.
std::vector<const Account*> matching(const Footprint& footprint, std::string_view name) {
  std::vector<const Account*> out;
  for (const Account& account : footprint.accounts) {
    if (account.name == name) return {&account};
    if (!name.empty() && account.name.starts_with(name)) out.push_back(&account);
  }
  return out;
}

}  // namespace

std::string report_text(const PlanReport& report, const TextStyle& style) {
  Terminal out(style);
  out.line(out.bold(printable(report.facts.title.empty() ? report.facts.target : report.facts.title)));
  add_rows(out, fact_rows(report.facts));
  std::vector<ReportRow> machine = machine_rows(report.machine);
  machine.push_back(
      {"budget", {fmt::format("{} ({})", to_string(report.budget.limit), printable(report.budget.source))}});
  add_rows(out, machine);
  add_plan(out, report);
  if (has_estimate(report)) out.line(out.dim(kEstimateNote));
  if (report.training || !report.cells.empty()) {
    out.line();
    add_verdict(out, report);
    add_smaller_kv(out, report);
  }
  for (const Solution& solution : report.solutions) add_solution(out, report, solution);
  const std::vector<std::string> notes = all_notes(report), hindrances = all_hindrances(report);
  if (!notes.empty() || !hindrances.empty()) out.line();
  for (const std::string& hindrance : hindrances) out.line(out.bad("cannot run") + ": " + hindrance);
  for (const std::string& note : notes) out.line("note: " + note);
  return out.take();
}

Result<std::string> explain_text(const Footprint& footprint, std::string_view account) {
  const std::vector<const Account*> found = matching(footprint, account);
  if (found.empty()) {
    std::vector<std::string> names;
    for (const Account& a : footprint.accounts) names.push_back(fmt::format("\"{}\"", printable(a.name)));
    return make_error(ErrorCode::kNotFound, "no account \"{}\": there are {}", printable(account), join(names, ", "));
  }
  ExplainWidths widths;
  Bytes sum;
  for (const Account* a : found) {
    sum += a->bytes;
    widths.text = widest(
        a->terms, [](const Term& t) { return printable(t.text); }, widths.text);
    widths.size = widest(
        a->terms, [](const Term& t) { return to_string(t.bytes); }, widths.size);
    widths.size = std::max(widths.size, to_string(a->bytes).size());
  }
  if (found.size() > 1) widths.text = std::max(widths.text, std::string_view("sum of all").size());
  widths.size = std::max(widths.size, to_string(sum).size());
  widths.bytes = grouped(sum.count).size() + 2;
  std::string out;
  for (const Account* a : found) add_terms(out, *a, widths);
  if (found.size() > 1) {
    out += fmt::format("  {}  {}  {}\n", left("sum of all", widths.text),
                       right(grouped(sum.count) + " B", widths.bytes), right(to_string(sum), widths.size));
  }
  return out;
}

}  // namespace axon
