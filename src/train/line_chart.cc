#include "train/line_chart.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "base/text.h"

namespace axon::train {
namespace {

// Units of the picture: pixels where it is not scaled.
constexpr double kWidth = 860, kHeight = 270, kTop = 46, kBottom = 40, kRight = 34;
constexpr double kLetter = 7.3;  // at most, of a letter on average at 12.5 px
constexpr std::size_t kMostTips = 160;
constexpr double kOutliers = 0.005;  // of the faint values, which do not stretch the picture
constexpr double kOfAStep = 1e-3;    // a value this near to a tick is on it

// Okabe and Ito's palette (2008). Colours stand by themselves, not as custom properties: many programs that show a file
// know none.
constexpr std::string_view kStyle = R"(
.axon-training{font:12.5px system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans","DejaVu Sans",sans-serif;
font-variant-numeric:tabular-nums}
.axon-training .ground{fill:#fff}
.axon-training text{fill:#1b1f24}
.axon-training .soft{fill:#59626d}
.axon-training .title{font-weight:600;font-size:14px}
.axon-training .grid{stroke:#dfe3e8;stroke-width:1}
.axon-training .axis{stroke:#59626d;stroke-width:1}
.axon-training .line{fill:none;stroke-linejoin:round;stroke-linecap:round}
.axon-training .faint{stroke:#9fcbe6;stroke-width:1}
.axon-training .strong{stroke:#0072b2;stroke-width:2}
.axon-training .second{stroke:#d55e00;stroke-width:1.5}
.axon-training .dot{fill:#d55e00}
.axon-training .held{fill:#e69f00;opacity:.22}
.axon-training .held.grave{fill:#d55e00;opacity:.3}
.axon-training .tip{fill:#1b1f24;opacity:0}
.axon-training .tip:hover{opacity:.08}
@media (prefers-color-scheme:dark){.axon-training .ground{fill:#16191d}.axon-training text{fill:#e8eaed}
.axon-training .soft{fill:#a2abb5}.axon-training .grid{stroke:#30363d}.axon-training .axis{stroke:#a2abb5}
.axon-training .faint{stroke:#28536b}.axon-training .strong{stroke:#56b4e9}.axon-training .second{stroke:#f0883e}
.axon-training .dot{fill:#f0883e}.axon-training .tip{fill:#fff}}
)";

std::string_view style_of(ChartLine::Look look) {
  switch (look) {
    case ChartLine::Look::kFaint: return "line faint";
    case ChartLine::Look::kStrong: return "line strong";
    case ChartLine::Look::kSecond:
    case ChartLine::Look::kDots: break;
  }
  return "line second";
}

// Round ticks that cover [low, high], `most` of them at most, and one.
struct Ticks {
  Ticks(double low, double high, std::size_t most) {
    const double span = std::max(high - low, std::max(std::abs(high), 1e-30) * 1e-9);
    const double rough = span / static_cast<double>(most), power = std::pow(10.0, std::floor(std::log10(rough)));
    step = power * (rough <= power ? 1 : rough <= 2 * power ? 2 : rough <= 5 * power ? 5 : 10);
    first = std::floor(low / step + kOfAStep);
    count = static_cast<std::size_t>(std::max(1.0, std::ceil(high / step - kOfAStep) - first));
  }
  double at(std::size_t i) const { return step * (first + static_cast<double>(i)); }
  double low() const { return at(0); }
  double high() const { return at(count); }
  double step = 1, first = 0;
  std::size_t count = 1;
};

std::string number(double value) { return fmt::format("{:.4g}", value == 0 ? 0.0 : value); }

std::string step_words(double step) { return grouped(static_cast<std::uint64_t>(std::llround(std::max(step, 0.0)))); }

class Picture {
 public:
  explicit Picture(const LineChart& chart) : chart_(chart), x_(steps()), y_(values()) {
    std::size_t widest = 3;
    for (std::size_t i = 0; i <= y_.count; ++i) widest = std::max(widest, number(y_.at(i)).size());
    left_ = 18 + kLetter * static_cast<double>(widest);
  }

  std::string draw(ChartStyle style) {
    put(R"(<svg class="axon-training" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0:.0f} {1:.0f}" width="{0:.0f}" )"
        R"(height="{1:.0f}" role="img" aria-label="{2}">)",
        kWidth, kHeight, escaped(description()));
    if (style == ChartStyle::kInside) put("<style>{}</style>", kStyle);
    put(R"(<rect class="ground" width="{:.0f}" height="{:.0f}"/>)", kWidth, kHeight);
    heading();
    if (drawn_) {
      bands();
      grid();
      // A nested <svg> cuts off what lies outside of it, and needs no name that two pictures of a page could share.
      put(R"(<svg x="0" y="{0:.1f}" width="{1:.0f}" height="{2:.1f}" viewBox="0 {0:.1f} {1:.0f} {2:.1f}">)", kTop - 2,
          kWidth, kHeight - kTop - kBottom + 4);
      for (const ChartLine& line : chart_.lines) draw_line(line);
      put("</svg>");
      tips();
    } else {
      put(R"(<text class="soft" x="20" y="{:.0f}">Nothing was recorded.</text>)", kHeight / 2);
    }
    put("</svg>");
    return std::move(out_);
  }

 private:
  template <class... Args>
  void put(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(out_), format, std::forward<Args>(args)...);
    out_ += '\n';
  }

  Ticks steps() {
    double low = 0, high = 0;
    for (const ChartLine& line : chart_.lines) {
      if (line.points.empty()) continue;
      low = drawn_ ? std::min(low, line.points.front().step) : line.points.front().step;
      high = drawn_ ? std::max(high, line.points.back().step) : line.points.back().step;
      drawn_ = true;
    }
    begin_ = low;
    end_ = std::max(high, low + 1);
    return {begin_, end_, 8};
  }

  Ticks values() const {
    std::vector<double> faint, others;
    for (const ChartLine& line : chart_.lines) {
      auto& into = line.look == ChartLine::Look::kFaint ? faint : others;
      for (const Curve::Point& point : line.points) into.push_back(point.value);
    }
    std::sort(faint.begin(), faint.end());
    const auto cut = static_cast<std::size_t>(kOutliers * static_cast<double>(faint.size()));
    if (!faint.empty()) others.insert(others.end(), {faint[cut], faint[faint.size() - 1 - cut]});
    if (others.empty()) return {0, 1, 5};
    const auto [least, most] = std::minmax_element(others.begin(), others.end());
    return {chart_.from_zero ? std::min(*least, 0.0) : *least, *most, 5};
  }

  double x(double step) const { return left_ + (step - begin_) / (end_ - begin_) * (kWidth - kRight - left_); }
  double y(double value) const {
    const double share = (value - y_.low()) / (y_.high() - y_.low());
    return kHeight - kBottom - share * (kHeight - kBottom - kTop);
  }

  std::string description() const {
    std::string out = chart_.title;
    for (const ChartLine& line : chart_.lines) {
      if (line.points.empty()) continue;
      out += fmt::format("; {}: {} at step {}, {} at step {}", line.name, number(line.points.front().value),
                         step_words(line.points.front().step), number(line.points.back().value),
                         step_words(line.points.back().step));
    }
    return out;
  }

  void heading() {
    put(R"(<text class="title" x="{:.1f}" y="20">{}</text>)", 20.0, escaped(chart_.title));
    double at = 20 + 8.8 * static_cast<double>(display_width(chart_.title)) + 10;
    put(R"(<text class="soft" x="{:.1f}" y="20">{}</text>)", at, escaped(chart_.unit));
    at += kLetter * static_cast<double>(display_width(chart_.unit)) + 24;
    for (const ChartLine& line : chart_.lines) {
      if (line.points.empty() || line.name.empty()) continue;
      put(R"(<path class="{}" d="M{:.1f},15.5h18"/>)", style_of(line.look), at);
      if (line.look == ChartLine::Look::kDots) put(R"(<circle class="dot" cx="{:.1f}" cy="15.5" r="3"/>)", at + 9);
      put(R"(<text class="soft" x="{:.1f}" y="20">{}</text>)", at + 24, escaped(line.name));
      at += 24 + kLetter * static_cast<double>(display_width(line.name)) + 16;
    }
  }

  void bands() {
    for (const ChartBand& band : chart_.bands) {
      const double from = std::clamp(x(band.from), left_, kWidth - kRight);
      const double to = std::clamp(x(band.to), left_, kWidth - kRight);
      put(R"(<rect class="held{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>)", band.grave ? " grave" : "",
          from, kTop, std::max(to - from, 1.0), kHeight - kTop - kBottom);
    }
  }

  void grid() {
    for (std::size_t i = 0; i <= y_.count; ++i) {
      const double at = y(y_.at(i));
      put(R"(<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>)", i == 0 ? "axis" : "grid", left_, at,
          kWidth - kRight, at);
      put(R"(<text class="soft" x="{:.1f}" y="{:.1f}" text-anchor="end">{}</text>)", left_ - 8, at + 4.5,
          number(y_.at(i)));
    }
    for (std::size_t i = 0; i <= x_.count; ++i) {
      if (x_.at(i) < begin_ || x_.at(i) > end_ || x_.at(i) != std::floor(x_.at(i))) continue;
      put(R"(<text class="soft" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>)", x(x_.at(i)),
          kHeight - kBottom + 18, step_words(x_.at(i)));
    }
    put(R"(<text class="soft" x="{:.1f}" y="{:.1f}" text-anchor="end">step</text>)", kWidth - kRight, kHeight - 6);
  }

  void draw_line(const ChartLine& line) {
    if (line.points.empty()) return;
    out_ += fmt::format("<path class=\"{}\" d=\"", style_of(line.look));
    for (std::size_t i = 0; i < line.points.size(); ++i) {
      out_ += fmt::format("{}{:.1f},{:.1f}", i == 0 ? 'M' : 'L', x(line.points[i].step), y(line.points[i].value));
    }
    if (line.points.size() == 1) out_ += "h0.1";  // a round cap
    put("\"/>");
    if (line.look != ChartLine::Look::kDots) return;
    for (const Curve::Point& p : line.points) {
      put(R"(<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="3"/>)", x(p.step), y(p.value));
    }
  }

  // Stretches of the longest line's points, over all of the height: the numbers nearest to their middle.
  void tips() {
    const auto longest = std::max_element(chart_.lines.begin(), chart_.lines.end(), [](const auto& a, const auto& b) {
      return a.points.size() < b.points.size();
    });
    const std::vector<Curve::Point>& points = longest->points;
    const std::size_t each = (points.size() + kMostTips - 1) / kMostTips;
    double from = left_;
    for (std::size_t i = 0; i < points.size(); i += each) {
      const std::size_t next = i + each;
      const double to = next < points.size() ? (x(points[next - 1].step) + x(points[next].step)) / 2 : kWidth - kRight;
      const double middle = points[std::min(i + each / 2, points.size() - 1)].step;
      put(R"(<rect class="tip" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>)", from,
          kTop, to - from, kHeight - kTop - kBottom, tip(middle));
      from = to;
    }
  }

  std::string tip(double step) const {
    std::string out = fmt::format("step {}", step_words(step));
    for (const ChartLine& line : chart_.lines) {
      if (line.points.empty()) continue;
      const auto nearest = std::min_element(line.points.begin(), line.points.end(), [&](const auto& a, const auto& b) {
        return std::abs(a.step - step) < std::abs(b.step - step);
      });
      out += fmt::format("\n{}: {}", escaped(line.name.empty() ? chart_.title : line.name), number(nearest->value));
      if (line.look == ChartLine::Look::kDots) out += fmt::format(" (step {})", step_words(nearest->step));
    }
    for (const ChartBand& band : chart_.bands) {
      if (band.from <= step && step <= band.to) out += fmt::format("\n{}", escaped(band.name));
    }
    return out;
  }

  const LineChart& chart_;
  bool drawn_ = false;  // some line has a point
  double begin_ = 0, end_ = 1;
  Ticks x_, y_;
  double left_ = 0;
  std::string out_;
};

}  // namespace

std::string line_chart_svg(const LineChart& chart, ChartStyle style) { return Picture(chart).draw(style); }

std::string_view line_chart_style() { return kStyle; }

}  // namespace axon::train
