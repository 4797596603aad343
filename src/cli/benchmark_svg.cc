// The picture of a benchmark: how fast each case is within its ceiling, and where the time of each goes.

#include <algorithm>
#include <numeric>

#include "cli/benchmark_report.h"
#include "plan/report.h"
#include "plan/report_chart.h"
#include "plan/report_words.h"

namespace axon::cli {
namespace {

// Units of the picture: pixels where it is not scaled.
constexpr double kWidth = 860, kMargin = 20;
constexpr double kLetter = 7.3;  // at most, of a letter on average at 12.5 px
constexpr double kRow = 26, kBar = 15, kTitle = 40;
constexpr double kWords = 268;           // right of a bar of speed: number and share
constexpr std::size_t kMaxSeries = 8;    // colours
constexpr double kVisible = 0.005;       // of the time: some pixels
constexpr double kLabelledShare = 0.06;  // of the time: narrower parts have no room for their share
constexpr std::size_t kLongestHeading = 90;

// Okabe and Ito's palette (2008), as in the charts of plan. Colours stand by themselves, not as custom properties: many
// programs that show a file know none.
constexpr std::string_view kStyle = R"(
.axon-speed{font:12.5px system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans","DejaVu Sans",sans-serif;
font-variant-numeric:tabular-nums}
.axon-speed .ground{fill:#fff}
.axon-speed text{fill:#1b1f24}
.axon-speed .soft{fill:#59626d}
.axon-speed .strong{font-weight:600}
.axon-speed .title{font-weight:600;font-size:15px}
.axon-speed .track{fill:#e4e8ec}
.axon-speed .roof{stroke:#1b1f24;stroke-width:2}
.axon-speed .range{stroke:#1b1f24;stroke-width:1}
.axon-speed .part{stroke:#fff;stroke-width:1}
.axon-speed .s0{fill:#3d9fdb}.axon-speed .s1{fill:#e69f00}.axon-speed .s2{fill:#00a87b}.axon-speed .s3{fill:#cc79a7}
.axon-speed .s4{fill:#b9c400}.axon-speed .s5{fill:#d9662a}.axon-speed .s6{fill:#8ea0b0}.axon-speed .s7{fill:#c3c9cf}
@media (prefers-color-scheme:dark){.axon-speed .ground{fill:#16191d}.axon-speed text{fill:#e8eaed}
.axon-speed .soft{fill:#a2abb5}.axon-speed .track{fill:#30363d}.axon-speed .roof{stroke:#fff}
.axon-speed .range{stroke:#fff}.axon-speed .part{stroke:#16191d}}
.axon-speed text.in{fill:#10141a;font-size:11px;pointer-events:none}
)";

struct Row {
  std::string label;
  const BenchmarkCaseResult* result = nullptr;
  std::size_t side = 0;
};

struct Series {
  std::string name;
  std::vector<double> shares;  // one a row
};

double width_of(std::string_view text) { return kLetter * static_cast<double>(display_width(text)); }

std::string shortened(std::string text) {
  if (display_width(text) <= kLongestHeading) return text;
  // Folders differ at their end.
  std::size_t begin = text.size();
  for (std::size_t points = 1; points < kLongestHeading; ++points) {
    do --begin;
    while ((static_cast<unsigned char>(text[begin]) & 0xC0u) == 0x80u);
  }
  return "…" + text.substr(begin);
}

// As fast as its ceilings would let it be; 0 where they were not measured.
Spread share_of(const BenchmarkCaseResult& result) {
  return result.what.kind == BenchmarkCase::kPrefill ? result.spread(&BenchmarkTurn::compute_share)
                                                     : result.spread(&BenchmarkTurn::bytes_share);
}

Spread speed_of(const BenchmarkCaseResult& result) {
  return result.spread([](const BenchmarkTurn& t) { return t.tokens_per_second(); });
}

double roof_of(const BenchmarkCaseResult& result) {
  const Spread share = share_of(result);
  return share.median > 0 ? speed_of(result).median / share.median : 0;
}

std::string speed_words(double rate) { return fmt::format("{:.{}f} tokens/s", rate, rate < 99.95 ? 2 : 1); }

class Picture {
 public:
  explicit Picture(const BenchmarkReport& report) : report_(report) {
    for (std::size_t c = 0; c < report.result.subjects[0].size(); ++c) {
      for (std::size_t s = 0; s < report.sides.size(); ++s) {
        const BenchmarkCaseResult& result = report.result.subjects[s][c];
        rows_.push_back({label(result.what, s), &result, s});
        left_ = std::max(left_, kMargin + width_of(rows_.back().label) + 10);
      }
    }
  }

  std::string draw() {
    heading();
    speeds(BenchmarkCase::kPrefill, "Reading a prompt",
           "black line: what the products would reach if nothing but they took time and ran at their ceiling");
    speeds(BenchmarkCase::kDecode, "Writing tokens",
           "black line: what reading weights, keys, values and states at the read ceiling would give");
    parts();
    const double height = y_ + kMargin - 8;
    std::string out = fmt::format(
        "<svg class=\"axon-speed\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" "
        "width=\"{0:.0f}\" height=\"{1:.0f}\" role=\"img\" aria-label=\"{2}\">\n<desc>{3}</desc>\n<style>{4}</style>\n"
        "<rect class=\"ground\" width=\"{0:.0f}\" height=\"{1:.0f}\"/>\n",
        kWidth, height, escaped("Speed of " + side_words(report_.sides[0])), escaped(description()), kStyle);
    return out + out_ + "</svg>\n";
  }

 private:
  template <class... Args>
  void put(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(out_), format, std::forward<Args>(args)...);
    out_ += '\n';
  }
  void text(std::string_view style, double x, double y, std::string_view words) {
    put(R"(<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>)", style, x, y, escaped(words));
  }

  std::string label(const BenchmarkCase& what, std::size_t side) const {
    const std::string letter = report_.letter(side);
    const std::string name = what.kind == BenchmarkCase::kPrefill ? fmt::format("{} tokens", grouped(what.tokens))
                                                                  : fmt::format("behind {}", grouped(what.depth));
    return letter.empty() ? name : name + ", " + letter;
  }

  std::string description() const {
    std::string out;
    for (const Row& row : rows_) {
      const Spread share = share_of(*row.result);
      out += fmt::format("{}{}{}: {}{}", out.empty() ? "" : "; ", row.result->what.name(),
                         report_.sides.size() > 1 ? " " + report_.letter(row.side) : "",
                         speed_words(speed_of(*row.result).median),
                         share.count > 0 ? fmt::format(", {:.0f} % of the ceiling", 100 * share.median) : "");
    }
    return out + ".";
  }

  void heading() {
    y_ = kMargin + 14;
    for (std::size_t s = 0; s < report_.sides.size(); ++s) {
      const std::string letter = report_.letter(s);
      text("title", kMargin, y_, shortened((letter.empty() ? "" : letter + ": ") + side_words(report_.sides[s])));
      y_ += 20;
    }
    text("soft", kMargin, y_,
         fmt::format("{}{}{}, {} threads; medians of {} repetitions, thin lines from the least to the most",
                     report_.processor, report_.processor.empty() ? "" : ", ", report_.level, report_.threads,
                     report_.repetitions));
    y_ += 18;
    text("soft", kMargin, y_, ceilings());
  }

  std::string ceilings() const {
    std::string out = "ceilings, measured between the turns:";
    for (std::size_t i = 0; i < kCeilings; ++i) {
      const Spread& rates = report_.result.ceilings[i];
      if (rates.count == 0) continue;
      out += fmt::format(" {} {:.1f} {}{}", name_of(static_cast<Ceiling>(i)), rates.median * 1e-9,
                         i == 0 ? "GB/s" : "GOP/s", i == 0 && report_.in_cache() ? " (of a cache)" : "");
      if (i + 1 < kCeilings) out += ',';
    }
    while (out.ends_with(',')) out.pop_back();
    return out;
  }

  void section(std::string_view title, std::string_view note) {
    y_ += kTitle;
    text("strong", kMargin, y_, title);
    text("soft", kMargin + width_of(title) + 22, y_, note);
    y_ += 10;
  }

  void speeds(BenchmarkCase::Kind kind, std::string_view title, std::string_view note) {
    double most = 0;
    for (const Row& row : rows_) {
      if (row.result->what.kind == kind) most = std::max({most, speed_of(*row.result).max, roof_of(*row.result)});
    }
    if (most == 0) return;
    section(title, note);
    for (const Row& row : rows_) {
      if (row.result->what.kind == kind) speed(row, (kWidth - kMargin - kWords - left_) / most);
    }
  }

  // `scale`: pixels for a token a second.
  void speed(const Row& row, double scale) {
    const Spread rate = speed_of(*row.result), share = share_of(*row.result);
    const double top = y_ + (kRow - kBar) / 2, middle = top + kBar / 2, base = middle + 4.5;
    const double roof = roof_of(*row.result) * scale;
    put(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="end">{}</text>)", left_ - 10, base, escaped(row.label));
    if (roof > 0) bar("track", left_, top, roof, "");
    const std::string range = fmt::format("{} to {}", speed_words(rate.min), speed_words(rate.max));
    bar(row.side == 0 ? "s0" : "s1", left_, top, rate.median * scale, fmt::format("{}: {}", row.label, range));
    put(R"(<line class="range" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>)", left_ + rate.min * scale, middle,
        left_ + rate.max * scale, middle);
    if (roof > 0) {
      put(R"(<line class="roof" x1="{0:.1f}" y1="{1:.1f}" x2="{0:.1f}" y2="{2:.1f}"/>)", left_ + roof, top - 2,
          top + kBar + 2);
    }
    std::string words = speed_words(rate.median);
    if (share.count > 0) words += fmt::format(", {:.0f} % of the ceiling", 100 * share.median);
    text("", left_ + std::max(roof, rate.max * scale) + 10, base, words);
    y_ += kRow;
  }

  void bar(std::string_view style, double x, double y, double width, std::string_view tip) {
    put(R"(<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">{}</rect>)", style, x, y,
        std::max(width, 1.0), kBar, tip.empty() ? "" : fmt::format("<title>{}</title>", escaped(tip)));
  }

  // The largest parts in the order of size, the rest as one.
  std::vector<Series> series() const {
    std::vector<std::vector<BenchmarkPart>> of_side;
    for (const auto& cases : report_.result.subjects) of_side.push_back(parts_of(cases));
    std::vector<Series> all;
    for (std::size_t r = 0; r < rows_.size(); ++r) {
      const std::size_t c = r / report_.sides.size();
      for (const BenchmarkPart& part : of_side[rows_[r].side]) {
        auto same = std::find_if(all.begin(), all.end(), [&](const Series& s) { return s.name == part.name; });
        if (same == all.end()) same = all.insert(all.end(), {part.name, std::vector<double>(rows_.size())});
        same->shares[r] = part.shares[c];
      }
    }
    const auto largest = [](const Series& s) { return *std::max_element(s.shares.begin(), s.shares.end()); };
    std::stable_sort(all.begin(), all.end(), [&](const auto& a, const auto& b) { return largest(a) > largest(b); });
    std::size_t seen = 0;
    while (seen < all.size() && largest(all[seen]) >= kVisible) ++seen;
    if (all.size() > kMaxSeries) seen = std::min(seen, kMaxSeries - 1);
    if (all.size() - seen < 2) return all;
    Series rest{"others", std::vector<double>(rows_.size())};
    for (std::size_t i = seen; i < all.size(); ++i) {
      for (std::size_t r = 0; r < rows_.size(); ++r) rest.shares[r] += all[i].shares[r];
    }
    all.resize(seen);
    all.push_back(std::move(rest));
    return all;
  }

  void parts() {
    const std::vector<Series> all = series();
    section("Where the time goes", "shares of a prompt's or a token's time; at the right, all of it");
    double x = left_;
    for (std::size_t s = 0; s < all.size(); ++s) {
      put(R"(<rect class="s{}" x="{:.1f}" y="{:.1f}" width="11" height="11"/>)", s, x, y_ + 8);
      text("soft", x + 16, y_ + 18, all[s].name);
      x += 16 + width_of(all[s].name) + 12;
    }
    y_ += kRow;
    BenchmarkCase::Kind last = rows_.front().result->what.kind;
    for (std::size_t r = 0; r < rows_.size(); ++r) {
      if (rows_[r].result->what.kind != last) y_ += 8;
      last = rows_[r].result->what.kind;
      stack(r, all);
    }
  }

  void stack(std::size_t r, const std::vector<Series>& all) {
    const double scale = kWidth - kMargin - 70 - left_;
    const double top = y_ + (kRow - kBar) / 2, base = top + kBar / 2 + 4.5;
    put(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="end">{}</text>)", left_ - 10, base, escaped(rows_[r].label));
    const double whole = rows_[r].result->sum().seconds / rows_[r].result->units();
    double x = left_;
    for (std::size_t s = 0; s < all.size(); ++s) {
      const double share = all[s].shares[r], width = share * scale;
      if (width < 0.05) continue;
      bar(fmt::format("part s{}", s), x, top, width,
          fmt::format("{}: {}, {:.1f} %", all[s].name, seconds_words(share * whole), 100 * share));
      if (share >= kLabelledShare) {
        put(R"(<text class="in" x="{:.1f}" y="{:.1f}" text-anchor="middle">{:.0f} %</text>)", x + width / 2, base - 0.5,
            100 * share);
      }
      x += width;
    }
    text("", left_ + scale + 10, base, seconds_words(whole));
    y_ += kRow;
  }

  const BenchmarkReport& report_;
  std::vector<Row> rows_;  // cases, and of each the sides
  double left_ = 0;        // where bars begin
  double y_ = 0;           // where the next thing is drawn
  std::string out_;
};

}  // namespace

std::string benchmark_svg(const BenchmarkReport& report) { return Picture(report).draw(); }

}  // namespace axon::cli
