#include "plan/report_chart.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "plan/report_words.h"

namespace axon {
namespace {

constexpr std::size_t kMaxSeries = 8;
constexpr double kVisible = 0.005;  // of the highest total: less than two pixels

// Units of the picture: pixels where it is not scaled.
constexpr double kWidth = 840, kHeight = 400, kTop = 34, kBottom = 48;
constexpr double kLetter = 6.9;  // at most, of a letter on average at 12.5 px
constexpr double kLine = 16;
constexpr double kColumn = 160;  // a single context
constexpr std::size_t kLongestLabel = 30;
constexpr double kBudgetInSight = 3;  // times the highest total: a higher budget would flatten the areas

// Okabe and Ito's palette (2008), told apart with any colour blindness; on white the pale ones are darkened, and yellow
// is used on the dark ground alone. Neighbours in the stack differ in lightness, too.
constexpr std::string_view kStyle = R"(
.axon-chart{--surface:#fff;--ink:#1b1f24;--soft:#59626d;--grid:#dfe3e8;--limit:#1b1f24;
--s0:#0072b2;--s1:#e69f00;--s2:#009e73;--s3:#cc79a7;--s4:#3d9fdb;--s5:#c24e00;--s6:#9a8700;--s7:#7b8490;
font:12.5px system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif;font-variant-numeric:tabular-nums}
@media (prefers-color-scheme:dark){.axon-chart{--surface:#16191d;--ink:#e8eaed;--soft:#a2abb5;--grid:#30363d;
--limit:#fff;--s0:#2f8fd0;--s1:#e69f00;--s2:#0aa57b;--s3:#cc79a7;--s4:#7cc8f2;--s5:#e0662a;--s6:#e3d65a;--s7:#8b949e}}
.axon-chart .ground{fill:var(--surface)}
.axon-chart text{fill:var(--ink)}
.axon-chart .soft{fill:var(--soft)}
.axon-chart .grid{stroke:var(--grid);stroke-width:1}
.axon-chart .axis{stroke:var(--soft);stroke-width:1}
.axon-chart .area{stroke:var(--surface);stroke-width:1;stroke-linejoin:round}
.axon-chart .s0{fill:var(--s0)}.axon-chart .s1{fill:var(--s1)}.axon-chart .s2{fill:var(--s2)}
.axon-chart .s3{fill:var(--s3)}.axon-chart .s4{fill:var(--s4)}.axon-chart .s5{fill:var(--s5)}
.axon-chart .s6{fill:var(--s6)}.axon-chart .s7{fill:var(--s7)}
.axon-chart .sum{fill:none;stroke:var(--ink);stroke-width:1.5}
.axon-chart .dot{stroke:var(--surface);stroke-width:1;opacity:0}
.axon-chart .dot:hover{opacity:1}
.axon-chart .dot.whole{opacity:1;fill:var(--ink)}
.axon-chart .band{fill:var(--ink);opacity:0}
.axon-chart .band:hover{opacity:.07}
.axon-chart .limit{stroke:var(--limit);stroke-width:2;stroke-dasharray:7 5}
.axon-chart .limit-ground{stroke:var(--surface);stroke-width:4;opacity:.7}
.axon-chart .halo{stroke:var(--surface);stroke-width:4;stroke-linejoin:round;paint-order:stroke}
.axon-chart .strong{font-weight:600}
.axon-chart .lead{fill:none;stroke:var(--soft);stroke-width:1}
)";

std::string series_name(const Account& account) {
  return account.name == "weights" || account.name.starts_with("weights:") ? "weights" : account.name;
}

Bytes peak(const ChartSeries& series) { return *std::max_element(series.values.begin(), series.values.end()); }

// One series for those too small to be seen, and for the smallest of too many.
std::vector<ChartSeries> without_small(std::vector<ChartSeries> all, Bytes highest) {
  std::vector<std::size_t> by_size(all.size());
  std::iota(by_size.begin(), by_size.end(), std::size_t{0});
  std::stable_sort(by_size.begin(), by_size.end(), [&](auto a, auto b) { return peak(all[a]) > peak(all[b]); });
  const double least = std::max(kVisible * static_cast<double>(highest.count), 1.0);
  std::size_t seen = 0;
  while (seen < all.size() && static_cast<double>(peak(all[by_size[seen]]).count) >= least) ++seen;
  if (all.size() > kMaxSeries) seen = std::min(seen, kMaxSeries - 1);
  if (all.size() - seen < 2) return all;
  ChartSeries rest{fmt::format("{} other accounts", all.size() - seen), std::vector<Bytes>(all.front().values.size()),
                   false};
  for (std::size_t i = seen; i < all.size(); ++i) {
    rest.estimate = rest.estimate || all[by_size[i]].estimate;
    for (std::size_t p = 0; p < rest.values.size(); ++p) rest.values[p] += all[by_size[i]].values[p];
  }
  by_size.resize(seen);
  std::sort(by_size.begin(), by_size.end());
  std::vector<ChartSeries> out;
  for (const std::size_t i : by_size) out.push_back(std::move(all[i]));
  out.push_back(std::move(rest));
  return out;
}

std::string shortened(std::string_view text, std::size_t longest) {
  std::string out = printable(text);
  if (display_width(out) <= longest) return out;
  std::size_t end = 0;
  for (std::size_t points = 0; points < longest; ++points) {
    do ++end;
    while (end < out.size() && (static_cast<unsigned char>(out[end]) & 0xC0u) == 0x80u);
  }
  return out.substr(0, end) + "…";
}

// Round ticks from zero to above the highest value, in MiB or GiB.
struct Scale {
  Scale(Bytes highest, std::size_t ticks) {
    unit = highest < 1_GiB ? 0x1p20 : 0x1p30;
    name = highest < 1_GiB ? "MiB" : "GiB";
    const double most = std::max(static_cast<double>(highest.count) / unit, 1e-3);
    const double rough = most / static_cast<double>(ticks), power = std::pow(10.0, std::floor(std::log10(rough)));
    step = power * (rough <= power ? 1 : rough <= 2 * power ? 2 : rough <= 5 * power ? 5 : 10);
    decimals = step >= 1 ? 0 : static_cast<int>(std::ceil(-std::log10(step) - 1e-9));
    count = static_cast<std::size_t>(std::ceil(most / step - 1e-9));
  }
  double y(Bytes bytes) const {
    const double share = static_cast<double>(bytes.count) / unit / (step * static_cast<double>(count));
    return kHeight - kBottom - share * (kHeight - kBottom - kTop);
  }
  double y(std::size_t tick) const {
    return kHeight - kBottom - static_cast<double>(tick) / static_cast<double>(count) * (kHeight - kBottom - kTop);
  }
  std::string label(std::size_t tick) const {
    const double value = step * static_cast<double>(tick);
    return decimals > 0 ? fmt::format("{:.{}f}", value, decimals)
                        : grouped(static_cast<std::uint64_t>(std::llround(value)));
  }
  double unit = 1, step = 1;
  int decimals = 0;
  std::size_t count = 1;
  std::string_view name;
};

class Chart {
 public:
  explicit Chart(const PlanReport& report)
      : report_(report), curve_(report.curve), series_(chart_series(report.curve)), scale_(highest(), 5) {
    for (const PlanCell& cell : curve_) {
      totals_.push_back(cell.footprint.total());
      estimate_ = estimate_ || cell.footprint.estimate();
    }
    std::size_t widest = display_width(label("total", totals_.back(), estimate_));
    for (const ChartSeries& s : series_)
      widest = std::max(widest, display_width(label(s.name, s.values.back(), s.estimate)));
    right_ = kWidth - 30 - kLetter * static_cast<double>(widest);
    left_ = 16 + kLetter * static_cast<double>(std::max<std::size_t>(4, scale_.label(scale_.count).size()));
    place_points();
  }

  std::string draw() {
    open();
    grid();
    areas();
    x_axis();
    budget();
    points();
    labels();
    out_ += "</svg>\n";
    return std::move(out_);
  }

 private:
  template <class... Args>
  void put(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(out_), format, std::forward<Args>(args)...);
    out_ += '\n';
  }

  Bytes highest() {
    Bytes most;
    for (const PlanCell& cell : curve_) most = std::max(most, cell.footprint.total());
    budget_in_sight_ =
        static_cast<double>(report_.budget.limit.count) <= kBudgetInSight * static_cast<double>(most.count);
    return budget_in_sight_ ? std::max(most, report_.budget.limit) : most;
  }

  std::uint64_t context(std::size_t point) const {
    const std::uint64_t asked = curve_[point].choice.context;
    return std::max<std::uint64_t>(1, asked > 0 ? asked : report_.facts.context_max);
  }

  static std::string label(std::string_view name, Bytes last, bool estimate) {
    return shortened(name, kLongestLabel) + "  " + size_words(last, estimate);
  }

  std::string tokens(std::size_t point) const { return grouped(context(point)); }

  // A single context is a column, not a curve.
  void place_points() {
    const double low = std::log2(static_cast<double>(context(0)));
    const double high = std::log2(static_cast<double>(context(curve_.size() - 1)));
    const double column = right_ - kColumn / 2;
    for (std::size_t p = 0; p < curve_.size(); ++p) {
      const double at = std::log2(static_cast<double>(context(p)));
      x_.push_back(high > low ? left_ + (at - low) / (high - low) * (right_ - left_) : column);
    }
    column_ = high <= low;
  }

  void open() {
    const std::string name =
        fmt::format("Memory by account over context: {}",
                    escaped(report_.facts.title.empty() ? report_.facts.target : report_.facts.title));
    put(R"(<svg class="axon-chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {:.0f} {:.0f}" role="img" )"
        R"(aria-label="{}">)",
        kWidth, kHeight, name);
    std::string desc;
    for (std::size_t p = 0; p < curve_.size(); ++p) {
      desc += fmt::format("{}{} tokens: {}", p > 0 ? "; " : "", tokens(p), to_string(totals_[p]));
    }
    put("<desc>Totals: {}. Budget: {}.</desc>", desc, to_string(report_.budget.limit));
    put("<style>{}</style>", kStyle);
    put(R"(<rect class="ground" width="{:.0f}" height="{:.0f}"/>)", kWidth, kHeight);
  }

  void grid() {
    for (std::size_t tick = 0; tick <= scale_.count; ++tick) {
      const double y = scale_.y(tick);
      put(R"(<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>)", tick == 0 ? "axis" : "grid", left_,
          y, right_, y);
      put(R"(<text class="soft" x="{:.1f}" y="{:.1f}" text-anchor="end">{}</text>)", left_ - 8, y + 4,
          scale_.label(tick));
    }
    put(R"(<text class="soft" x="{:.1f}" y="{:.1f}" text-anchor="end">{}</text>)", left_ - 8, kTop - 18, scale_.name);
  }

  // There and back again: the upper border, then the lower one.
  void areas() {
    std::vector<Bytes> below(curve_.size());
    for (std::size_t s = 0; s < series_.size(); ++s) {
      std::vector<Bytes> above = below;
      for (std::size_t p = 0; p < above.size(); ++p) above[p] += series_[s].values[p];
      const std::string tip =
          fmt::format("{}: {} to {}", series_[s].name, size_words(series_[s].values.front(), series_[s].estimate),
                      size_words(series_[s].values.back(), series_[s].estimate));
      put(R"(<path class="area s{}" d="{}Z"><title>{}</title></path>)", s,
          border(above, "M", false) + border(below, "L", true), escaped(tip));
      below = above;
    }
    put(R"(<path class="sum" d="{}"/>)", border(below, "M", false));
  }

  std::string border(const std::vector<Bytes>& heights, std::string_view first, bool backwards) const {
    std::vector<std::pair<double, double>> at;
    for (std::size_t p = 0; p < heights.size(); ++p) at.emplace_back(x_[p], scale_.y(heights[p]));
    if (column_) {
      at = {{right_ - kColumn, at.back().second}, {right_, at.back().second}};
    }
    if (backwards) std::reverse(at.begin(), at.end());
    std::string out;
    for (const auto& [x, y] : at) {
      out += fmt::format("{}{:.1f},{:.1f}", out.empty() ? first : "L", x, y);
    }
    return out;
  }

  // Labels that would touch are left out; the last one never is.
  void x_axis() {
    const double base = kHeight - kBottom;
    const auto half = [&](std::size_t p) { return kLetter * static_cast<double>(tokens(p).size()) / 2 + 5; };
    const std::size_t last = curve_.size() - 1;
    double free_from = 0;
    for (std::size_t p = 0; p < curve_.size(); ++p) {
      put(R"(<line class="axis" x1="{0:.1f}" y1="{1:.1f}" x2="{0:.1f}" y2="{2:.1f}"/>)", x_[p], base, base + 5);
      const bool room = x_[p] - half(p) >= free_from && x_[p] + half(p) <= x_[last] - half(last);
      if (p != last && !room) continue;
      put(R"(<text class="soft" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>)", x_[p], base + 19, tokens(p));
      free_from = x_[p] + half(p);
    }
    put(R"(<text class="soft" x="{:.1f}" y="{:.1f}" text-anchor="middle">context in tokens{}</text>)",
        column_ ? x_.back() : (left_ + right_) / 2, base + 38, column_ ? "" : ", each doubling equally wide");
  }

  void budget() {
    const std::string text = fmt::format("budget {}", to_string(report_.budget.limit));
    if (!budget_in_sight_) {
      put(R"(<text class="strong" x="{:.1f}" y="{:.1f}">↑ {}: far above</text>)", left_ + 6, kTop - 14, text);
      return;
    }
    const double y = scale_.y(report_.budget.limit);
    for (const std::string_view style : {"limit-ground", "limit"}) {
      put(R"(<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>)", style, left_, y, right_, y);
    }
    put(R"(<text class="halo strong" x="{:.1f}" y="{:.1f}">{}</text>)", left_ + 6, y - 7, text);
  }

  void points() {
    for (std::size_t p = 0; p < curve_.size(); ++p) band(p);
    std::vector<Bytes> below(curve_.size());
    for (std::size_t s = 0; s < series_.size(); ++s) {
      for (std::size_t p = 0; p < curve_.size(); ++p) {
        below[p] += series_[s].values[p];
        dot(fmt::format("dot s{}", s), p, below[p], series_[s].name, series_[s].values[p], series_[s].estimate);
      }
    }
    for (std::size_t p = 0; p < curve_.size(); ++p) dot("dot whole", p, totals_[p], "total", totals_[p], estimate_);
  }

  void dot(std::string_view style, std::size_t p, Bytes height, std::string_view name, Bytes value, bool estimate) {
    put(R"(<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="3.5"><title>{}</title></circle>)", style, x_[p],
        scale_.y(height), escaped(exactly(name, p, value, estimate)));
  }

  std::string exactly(std::string_view name, std::size_t p, Bytes value, bool estimate) const {
    return fmt::format("{} at {} tokens: {} ({} bytes)", name, tokens(p), size_words(value, estimate),
                       grouped(value.count));
  }

  // Around a point, half of the way to its neighbours: all of its numbers.
  void band(std::size_t p) {
    const double from = p > 0 ? (x_[p - 1] + x_[p]) / 2 : left_;
    const double to = p + 1 < x_.size() ? (x_[p] + x_[p + 1]) / 2 : right_;
    std::string tip = escaped(exactly("total", p, totals_[p], estimate_));
    for (std::size_t s = series_.size(); s-- > 0;) {
      tip += fmt::format("\n{}: {}", escaped(series_[s].name), size_words(series_[s].values[p], series_[s].estimate));
    }
    put(R"(<rect class="band" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>)", from,
        kTop, to - from, kHeight - kBottom - kTop, tip);
  }

  struct Label {
    std::string text;
    std::size_t series = 0;
    double at = 0, y = 0;  // where it belongs, where there is room
  };

  // At the right end, beside the areas, from the bottom up; moved apart until none touches another.
  void labels() {
    std::vector<Label> list;
    Bytes below;
    for (std::size_t s = 0; s < series_.size(); ++s) {
      const Bytes above = below + series_[s].values.back();
      const double at = (scale_.y(below) + scale_.y(above)) / 2;
      list.push_back({label(series_[s].name, series_[s].values.back(), series_[s].estimate), s, at, at});
      below = above;
    }
    list.push_back({label("total", totals_.back(), estimate_), series_.size(), scale_.y(below), scale_.y(below) - 8});
    for (std::size_t i = 1; i < list.size(); ++i) list[i].y = std::min(list[i].y, list[i - 1].y - kLine);
    double highest = 12;
    for (std::size_t i = list.size(); i-- > 0;) {
      list[i].y = std::max(list[i].y, highest);
      highest = list[i].y + kLine;
    }
    for (const Label& l : list) {
      const bool whole = l.series == series_.size();
      put(R"(<path class="lead" d="M{:.1f},{:.1f}L{:.1f},{:.1f}"/>)", right_ + 2, l.at, right_ + 10, l.y);
      if (!whole) {
        put(R"(<rect class="s{}" x="{:.1f}" y="{:.1f}" width="9" height="9" rx="2"/>)", l.series, right_ + 12,
            l.y - 4.5);
      }
      put(R"(<text{} x="{:.1f}" y="{:.1f}">{}</text>)", whole ? R"( class="strong")" : "", right_ + (whole ? 12 : 25),
          l.y + 4, escaped(l.text));
    }
  }

  const PlanReport& report_;
  const std::vector<PlanCell>& curve_;
  std::vector<ChartSeries> series_;
  bool budget_in_sight_ = true;
  Scale scale_;
  std::vector<Bytes> totals_;
  std::vector<double> x_;
  double left_ = 0, right_ = 0;
  bool column_ = false, estimate_ = false;
  std::string out_;
};

}  // namespace

std::vector<ChartSeries> chart_series(const std::vector<PlanCell>& curve) {
  std::vector<ChartSeries> all;
  Bytes highest;
  for (std::size_t p = 0; p < curve.size(); ++p) {
    highest = std::max(highest, curve[p].footprint.total());
    for (const Account& account : curve[p].footprint.accounts) {
      const std::string name = series_name(account);
      auto series = std::find_if(all.begin(), all.end(), [&](const ChartSeries& s) { return s.name == name; });
      if (series == all.end()) series = all.insert(all.end(), {name, std::vector<Bytes>(curve.size()), false});
      series->values[p] += account.bytes;
      series->estimate = series->estimate || account.estimate;
    }
  }
  return without_small(std::move(all), highest);
}

std::string chart_svg(const PlanReport& report) { return report.curve.empty() ? "" : Chart(report).draw(); }

}  // namespace axon
