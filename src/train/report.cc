#include "train/report.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "io/atomic_file.h"
#include "train/line_chart.h"

namespace axon::train {
namespace {

constexpr std::string_view kStyle = R"(
:root{color-scheme:light dark;--surface:#fff;--ink:#1b1f24;--soft:#59626d;--line:#dfe3e8;--panel:#f5f7f9;--mark:#0072b2}
@media (prefers-color-scheme:dark){:root{--surface:#16191d;--ink:#e8eaed;--soft:#a2abb5;--line:#30363d;--panel:#1f242a;
--mark:#56b4e9}}
*{box-sizing:border-box}
body{margin:0;background:var(--surface);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Liberation Sans",sans-serif;font-variant-numeric:tabular-nums;-webkit-text-size-adjust:100%}
main{max-width:60rem;margin:0 auto;padding:1.5rem 1rem 3rem}
h1{font-size:1.6rem;line-height:1.25;margin:0;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:2.2rem 0 .6rem}
p{margin:.4rem 0;overflow-wrap:anywhere}
.soft{color:var(--soft)}
.summary{margin:1.2rem 0;padding:.8rem 1rem;border-radius:.5rem;background:var(--panel);
border-left:.35rem solid var(--mark)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
.wide{overflow-x:auto}
figure{margin:0 0 1rem}
figure svg.axon-training{display:block;width:100%;min-width:36rem;height:auto}
figcaption{color:var(--soft);font-size:.875rem}
table{border-collapse:collapse;width:100%}
th,td{padding:.35rem .6rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:baseline;
overflow-wrap:anywhere}
th:first-child,td:first-child{padding-left:0}
thead th{color:var(--soft);font-weight:600;font-size:.875rem}
tbody th{font-weight:400}
.n{text-align:right;white-space:nowrap}
tfoot th,tfoot td{font-weight:600}
@media print{:root{--surface:#fff;--ink:#000;--soft:#444;--line:#ccc;--panel:#f3f3f3}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}main{max-width:none;padding:0}h2{break-after:avoid}
figure,tr{break-inside:avoid}figure svg.axon-training{min-width:0}.wide{overflow:visible}}
)";

constexpr double kSmoothing = 60;  // half-lives over a run

std::string duration_words(double seconds) {
  if (seconds < 99.95) return fmt::format("{:.1f} s", seconds);
  const auto minutes = static_cast<std::uint64_t>(std::llround(seconds / 60));
  if (minutes < 60) return fmt::format("{} min", minutes);
  return fmt::format("{} h {} min", grouped(minutes / 60), minutes % 60);
}

std::vector<Curve::Point> smoothed(const Curve& curve) {
  return curve.smoothed(std::max(1.0, static_cast<double>(curve.points().size()) / kSmoothing));
}

LineChart raw_and_smoothed(std::string title, std::string unit, const Curve& curve) {
  return {.title = std::move(title),
          .unit = std::move(unit),
          .lines = {{"each step", ChartLine::Look::kFaint, curve.points()},
                    {"smoothed", ChartLine::Look::kStrong, smoothed(curve)}}};
}

LineChart loss_chart(const History& history, std::string title) {
  LineChart out = raw_and_smoothed(std::move(title), "nats a token", history.loss);
  out.lines.push_back({"validation", ChartLine::Look::kDots, history.validation_loss.points()});
  return out;
}

LineChart one_line(std::string title, std::string unit, const Curve& curve, bool from_zero) {
  return {.title = std::move(title),
          .unit = std::move(unit),
          .lines = {{"", ChartLine::Look::kStrong, curve.points()}},
          .bands = {},
          .from_zero = from_zero};
}

// A decision of the governor holds until the next one. "full" is the rule, and not drawn.
std::vector<ChartBand> thermal_bands(const History& history) {
  std::vector<ChartBand> out;
  const double end = history.last ? static_cast<double>(history.last->step) : 0;
  bool open = false;
  for (const EventMetrics& event : history.events) {
    if (event.event != "thermal" || !event.state) continue;
    const auto step = static_cast<double>(event.step);
    if (open) out.back().to = step;
    open = *event.state != "full";
    if (open) out.push_back({step, std::max(end, step), *event.state, *event.state != "half-rank"});
  }
  return out;
}

std::string words_of(const EventMetrics& event) {
  if (!event.state) return event.detail;
  return *event.state + (event.detail.empty() ? "" : ": " + event.detail);
}

// Elements in their order; text is escaped where it enters.
class Page {
 public:
  explicit Page(const TrainingReport& report) : report_(report), history_(report.history) {}

  std::string write() {
    head();
    charts();
    settings();
    memory();
    events();
    put("</main>\n</body>\n</html>");
    return std::move(out_);
  }

 private:
  template <class... Args>
  void put(fmt::format_string<Args...> format, Args&&... args) {
    out_ += fmt::format(format, std::forward<Args>(args)...);
    out_ += '\n';
  }

  void head() {
    put("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">");
    put("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">");
    put("<meta name=\"color-scheme\" content=\"light dark\">");
    put("<title>Training: {0}</title>\n<style>{1}{2}</style>\n</head>\n<body>\n<main>\n<h1>{0}</h1>",
        escaped(report_.title), kStyle, line_chart_style());
    put("<p class=\"summary\">{}</p>", escaped(summary_of(history_)));
  }

  void chart(const LineChart& chart, std::string_view caption = "") {
    put("<figure>\n<div class=\"wide\">\n{}</div>", line_chart_svg(chart, ChartStyle::kOutside));
    if (!caption.empty()) put("<figcaption>{}</figcaption>", escaped(caption));
    put("</figure>");
  }

  void charts() {
    put("<section>\n<h2>Curves</h2>");
    chart(loss_chart(history_, "Loss"),
          fmt::format(
              "Smoothed: a mean over neighbours, whose weights halve with every {:.0f}th of the run between. Of more "
              "than {} steps, several are one point.",
              kSmoothing, grouped(Curve::kMost)));
    if (!history_.reward_margin.empty()) {
      chart(raw_and_smoothed("Reward margin", "chosen minus rejected", history_.reward_margin));
      chart(raw_and_smoothed("Reward accuracy", "share of pairs", history_.reward_accuracy));
    }
    chart(one_line("Learning rate", "", history_.learning_rate, true));
    LineChart norm = raw_and_smoothed("Gradient norm", "before clipping", history_.gradient_norm);
    norm.from_zero = true;
    chart(norm);
    chart(one_line("Speed", "tokens/s", history_.tokens_per_second, true));
    if (!history_.celsius.empty()) {
      LineChart heat = one_line("Temperature", "°C", history_.celsius, false);
      heat.bands = thermal_bands(history_);
      chart(heat, heat.bands.empty() ? "" : "Shaded: steps in which the training was held back for heat.");
    }
    put("</section>");
  }

  void settings() {
    if (report_.settings.empty()) return;
    put("<section>\n<h2>Settings</h2>\n<dl>");
    for (const TrainingReport::Setting& s : report_.settings) {
      put("<dt>{}</dt><dd>{}</dd>", escaped(s.name), escaped(s.value));
    }
    put("</dl>\n</section>");
  }

  void memory() {
    if (report_.memory.empty()) return;
    put("<section>\n<h2>Memory</h2>\n<div class=\"wide\">\n<table>\n<thead><tr><th scope=\"col\">account</th>"
        "<th scope=\"col\" class=\"n\">planned</th><th scope=\"col\" class=\"n\">measured</th></tr></thead>\n<tbody>");
    Bytes planned, measured;
    for (const TrainingReport::Account& a : report_.memory) {
      put("<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>", escaped(a.name),
          to_string(a.planned), to_string(a.measured));
      planned += a.planned;
      measured += a.measured;
    }
    put("</tbody>\n<tfoot><tr><th scope=\"row\">total</th><td class=\"n\">{}</td><td class=\"n\">{}</td></tr></tfoot>\n"
        "</table>\n</div>\n</section>",
        to_string(planned), to_string(measured));
  }

  void events() {
    if (history_.events.empty()) return;
    put("<section>\n<h2>Events</h2>\n<div class=\"wide\">\n<table>\n<thead><tr><th scope=\"col\" class=\"n\">step</th>"
        "<th scope=\"col\">event</th><th scope=\"col\"></th><th scope=\"col\" "
        "class=\"n\">°C</th></tr></thead>\n<tbody>");
    for (const EventMetrics& e : history_.events) {
      put("<tr><td class=\"n\">{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td></tr>", grouped(e.step),
          escaped(e.event), escaped(words_of(e)), e.celsius ? fmt::format("{:.1f}", *e.celsius) : "");
    }
    put("</tbody>\n</table>\n</div>");
    if (history_.events_left_out != 0) put("<p class=\"soft\">And {} more.</p>", grouped(history_.events_left_out));
    put("</section>");
  }

  const TrainingReport& report_;
  const History& history_;
  std::string out_;
};

}  // namespace

std::string summary_of(const History& history) {
  if (!history.last) return "No step was recorded.";
  const TrainMetrics& last = *history.last;
  std::string out = fmt::format("Trained {} steps ({} updates, {:.2f} epochs) in {}", grouped(last.step),
                                grouped(last.update), last.epoch, duration_words(history.seconds));
  if (!history.loss.empty()) {
    const std::vector<Curve::Point> loss = smoothed(history.loss);
    out += fmt::format("; the loss went from {:.3f} to {:.3f}", loss.front().value, loss.back().value);
  }
  if (history.best_validation) {
    const ValidationMetrics& best = *history.best_validation;
    out += fmt::format("; the best validation loss was {:.3f} (perplexity {:.2f}) at step {}", best.loss,
                       best.perplexity, grouped(best.step));
  }
  if (history.seconds > 0) {
    out += fmt::format("; {:.1f} tokens/s on average", static_cast<double>(history.tokens) / history.seconds);
  }
  if (history.paused_seconds > 0) {
    out += fmt::format("; paused for heat: {}", duration_words(history.paused_seconds));
  }
  out += fmt::format("; at most {} of memory.", to_string(history.memory_peak));
  if (history.not_finite != 0) {
    out += fmt::format(" The loss of {} steps was not a finite number.", grouped(history.not_finite));
  }
  return out;
}

std::string training_report_html(const TrainingReport& report) { return Page(report).write(); }

std::string loss_svg(const History& history, const std::string& title) {
  return line_chart_svg(loss_chart(history, title), ChartStyle::kInside);
}

Status write_training_report(const std::string& path, const TrainingReport& report) {
  return write_file(path, training_report_html(report), Existing::kReplace);
}

}  // namespace axon::train
