#include <algorithm>

#include "plan/report_chart.h"
#include "plan/report_words.h"

namespace axon {
namespace {

constexpr std::string_view kStyle = R"(
:root{color-scheme:light dark;--surface:#fff;--ink:#1b1f24;--soft:#59626d;--line:#dfe3e8;--panel:#f5f7f9;--bar:#0072b2;
--good:#0b6b3a;--good-ground:#e3f4ea;--bad:#a3210f;--bad-ground:#fde9e4}
@media (prefers-color-scheme:dark){:root{--surface:#16191d;--ink:#e8eaed;--soft:#a2abb5;--line:#30363d;--panel:#1f242a;
--bar:#2f8fd0;--good:#7ee2a8;--good-ground:#123524;--bad:#ffab9b;--bad-ground:#4a1c14}}
*{box-sizing:border-box}
body{margin:0;background:var(--surface);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Liberation Sans",sans-serif;font-variant-numeric:tabular-nums;-webkit-text-size-adjust:100%}
main{max-width:60rem;margin:0 auto;padding:1.5rem 1rem 3rem}
h1{font-size:1.6rem;line-height:1.25;margin:0;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:2.2rem 0 .6rem}
p{margin:.4rem 0;overflow-wrap:anywhere}
.soft{color:var(--soft)}
.verdict{margin:1.2rem 0;padding:.8rem 1rem;border-radius:.5rem;border-left:.35rem solid}
.verdict.fits{background:var(--good-ground);border-color:var(--good)}
.verdict.over{background:var(--bad-ground);border-color:var(--bad)}
.verdict.fits strong,td.fits small{color:var(--good)}
.verdict.over strong,td.over small{color:var(--bad)}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(24rem,100%),1fr));gap:0 2.5rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
.wide{overflow-x:auto}
figure{margin:0}
figure svg{display:block;width:100%;min-width:36rem;height:auto}
figcaption{color:var(--soft);font-size:.875rem}
table{border-collapse:collapse;width:100%}
th,td{padding:.35rem .6rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:baseline}
th:first-child,td:first-child{padding-left:0}
thead th{color:var(--soft);font-weight:600;font-size:.875rem}
tbody th{font-weight:400}
.n{text-align:right;white-space:nowrap}
tfoot th,tfoot td,.sum th,.sum td{font-weight:600}
td small{display:inline-block;min-width:2.2em;text-align:left;margin-left:.4em;font-weight:600}
td.fits{background:var(--good-ground)}
td.over{background:var(--bad-ground)}
.bar{width:38%;min-width:5rem}
.bar i{display:block;height:.8rem;min-width:2px;border-radius:2px;background:var(--bar)}
.part th{font-weight:600;padding-top:1rem}
td.term{padding-left:1rem;min-width:12rem;overflow-wrap:anywhere}
code{font:.9em/1.45 ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
pre{margin:.2rem 0 .9rem;padding:.6rem .8rem;background:var(--panel);border-radius:.4rem;overflow-x:auto;
white-space:pre-wrap;overflow-wrap:anywhere}
.legend{display:none;list-style:none;margin:.3rem 0;padding:0;flex-wrap:wrap;gap:.1rem 1rem}
.legend i{display:inline-block;width:.7em;height:.7em;margin-right:.4em;border-radius:2px}
.legend .s0{background:var(--s0)}.legend .s1{background:var(--s1)}.legend .s2{background:var(--s2)}
.legend .s3{background:var(--s3)}.legend .s4{background:var(--s4)}.legend .s5{background:var(--s5)}
.legend .s6{background:var(--s6)}.legend .s7{background:var(--s7)}
@media screen and (max-width:44rem){.legend{display:flex}}
@media (max-width:34rem){.bar{display:none}.part th{padding-top:.6rem}}
@media print{:root{--surface:#fff;--ink:#000;--soft:#444;--line:#ccc;--panel:#f3f3f3;--bar:#0072b2;--good:#0b6b3a;
--good-ground:#e3f4ea;--bad:#a3210f;--bad-ground:#fde9e4}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
main{max-width:none;padding:0}h2{break-after:avoid}figure,tr,pre{break-inside:avoid}figure svg{min-width:0}
.wide{overflow:visible}}
)";

// Elements in their order; text is escaped where it enters.
class Page {
 public:
  explicit Page(const PlanReport& report) : report_(report) {}

  std::string write() {
    head();
    top();
    facts();
    chart();
    accounts();
    matrix();
    smaller_kv();
    solutions();
    notes();
    formulas();
    raw("</main>\n</body>\n</html>");
    return std::move(out_);
  }

 private:
  void raw(std::string_view line) {
    out_ += line;
    out_ += '\n';
  }
  template <class... Args>
  void put(fmt::format_string<Args...> format, Args&&... args) {
    raw(fmt::format(format, std::forward<Args>(args)...));
  }
  void section(std::string_view title) { put("<section>\n<h2>{}</h2>", escaped(title)); }
  void end() { raw("</section>"); }

  std::string title() const {
    return escaped(report_.facts.title.empty() ? report_.facts.target : report_.facts.title);
  }

  void head() {
    raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">");
    raw("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">");
    raw("<meta name=\"color-scheme\" content=\"light dark\">");
    put("<title>Memory plan: {}</title>\n<style>{}</style>\n</head>\n<body>\n<main>", title(), kStyle);
  }

  void top() {
    put("<header>\n<h1>{}</h1>", title());
    put("<p class=\"soft\">{}</p>\n</header>", escaped(what()));
    if (report_.training || !report_.cells.empty()) {
      const Verdict v = verdict(report_);
      put("<div class=\"verdict {}\">\n<p><strong>{}</strong>: {}</p>", v.fits ? "fits" : "over",
          v.fits ? "fits" : "does not fit", escaped(v.text));
      for (const std::string& more : v.more) put("<p>{}</p>", escaped(more));
      raw("</div>");
    }
    for (const std::string& hindrance : all_hindrances(report_)) {
      put("<p><strong>cannot run</strong>: {}</p>", escaped(hindrance));
    }
  }

  std::string what() const {
    if (report_.training) return "Memory plan for training: " + train_words(report_);
    if (report_.cells.size() == 1) return "Memory plan: " + choice_words(report_, report_.cells.front().choice, false);
    if (report_.cells.empty()) return "Memory plan";
    const std::string rest = choice_words(report_, report_.cells.front().choice, true);
    return "Memory plan over context" + (rest.empty() ? "" : ": " + rest);
  }

  void rows(const std::vector<ReportRow>& list) {
    raw("<dl>");
    std::string_view last;
    for (const ReportRow& row : list) {
      if (row.name != last) put("<dt>{}</dt>", escaped(row.name));
      put("<dd{}>{}</dd>", row.name == last ? " style=\"grid-column:2\"" : "", escaped(join(row.values, ", ")));
      last = row.name;
    }
    raw("</dl>");
  }

  void facts() {
    raw("<div class=\"pair\">");
    section("Model");
    rows(fact_rows(report_.facts));
    end();
    section("Machine and budget");
    std::vector<ReportRow> machine = machine_rows(report_.machine);
    machine.push_back({"budget", {fmt::format("{} ({})", to_string(report_.budget.limit), report_.budget.source)}});
    rows(machine);
    end();
    raw("</div>");
  }

  void chart() {
    if (report_.curve.empty()) return;
    section("Memory over context");
    const RunChoice& choice = report_.curve.front().choice;
    put("<figure>\n<div class=\"wide\">\n{}</div>", chart_svg(report_));
    legend();
    put("<figcaption>Weights {}, kv {}. Computed at the points; the lines between them are straight.</figcaption>",
        escaped(weights_words(choice.weights)), escaped(choice.kv));
    raw("</figure>");
    end();
  }

  // Where the chart is wider than the screen, its labels are out of sight.
  void legend() {
    raw("<ul class=\"legend axon-chart\" aria-hidden=\"true\">");
    const std::vector<ChartSeries> series = chart_series(report_.curve);
    for (std::size_t s = 0; s < series.size(); ++s) {
      put("<li><i class=\"s{}\"></i>{}</li>", s, escaped(series[s].name));
    }
    raw("</ul>");
  }

  void accounts() {
    const Footprint* footprint = only_footprint(report_);
    if (footprint == nullptr) return;
    const Bytes total = footprint->total();
    section("Accounts");
    raw("<table>\n<thead><tr><th scope=\"col\">account</th><th scope=\"col\" class=\"n\">size</th>"
        "<th scope=\"col\" class=\"n\">share</th><td class=\"bar\"></td></tr></thead>\n<tbody>");
    for (const Account& a : footprint->accounts) {
      const double largest = static_cast<double>(footprint->largest().bytes.count);
      const std::string bar = a.bytes.count == 0 ? ""
                                                 : fmt::format("<i style=\"width:{:.2f}%\"></i>",
                                                               100.0 * static_cast<double>(a.bytes.count) / largest);
      put("<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"bar\">{}</td></tr>",
          escaped(a.name), size_words(a.bytes, a.estimate), escaped(share_words(a.bytes, total)), bar);
    }
    put("</tbody>\n<tfoot><tr><th scope=\"row\">total</th><td class=\"n\">{}</td><td></td><td class=\"bar\"></td></tr>"
        "</tfoot>\n</table>",
        size_words(total, footprint->estimate()));
    end();
  }

  void matrix() {
    if (only_footprint(report_) != nullptr || report_.cells.empty()) return;
    const std::size_t contexts = report_.contexts.size();
    const bool several_kv = report_.kv.size() > 1;
    section("Total memory");
    put("<div class=\"wide\">\n<table>\n<thead><tr><th scope=\"col\">weights</th>{}",
        several_kv ? "<th scope=\"col\">kv</th>" : "");
    for (const std::uint64_t c : report_.contexts) {
      put("<th scope=\"col\" class=\"n\">{}<br>tokens</th>", context_words(report_, c));
    }
    raw("</tr></thead>\n<tbody>");
    for (std::size_t row = 0; row < report_.cells.size() / contexts; ++row) {
      put("<tr><th scope=\"row\">{}</th>", escaped(weights_words(report_.weights[row % report_.weights.size()])));
      if (several_kv) put("<td>{}</td>", escaped(report_.kv[row / report_.weights.size()]));
      for (std::size_t c = 0; c < contexts; ++c) {
        const PlanCell& cell = report_.cells[row * contexts + c];
        put("<td class=\"n {}\">{}<small>{}</small></td>", cell.fits ? "fits" : "over",
            size_words(cell.footprint.total(), cell.footprint.estimate()), cell.fits ? "fits" : "over");
      }
      raw("</tr>");
    }
    raw("</tbody>\n</table>\n</div>");
    end();
  }

  void smaller_kv() {
    const SmallerKvWords words = smaller_kv_words(report_);
    if (words.rows.empty() && words.instead.empty()) return;
    section("Smaller KV caches");
    if (!words.instead.empty()) put("<p>{}</p>", escaped(words.instead));
    if (!words.rows.empty()) {
      raw("<table>\n<thead><tr><th scope=\"col\">--kv</th><th scope=\"col\" class=\"n\">size</th>"
          "<th scope=\"col\" class=\"n\">saves</th><th scope=\"col\"></th></tr></thead>\n<tbody>");
      for (const SmallerKvWords::Row& row : words.rows) {
        put("<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            escaped(row.kv), row.bytes, row.saved, escaped(row.cost));
      }
      raw("</tbody>\n</table>");
      if (!words.source.empty()) put("<p>{}</p>", escaped(words.source));
    }
    end();
  }

  void solutions() {
    for (const Solution& solution : report_.solutions) {
      const SolutionWords words = solution_words(report_, solution);
      std::string heading = words.heading;
      heading.front() = static_cast<char>(std::toupper(static_cast<unsigned char>(heading.front())));
      section(heading);
      if (!words.nothing.empty()) put("<p>{}</p>", escaped(words.nothing));
      for (const SolutionWords::Row& row : words.rows) {
        put("<p>{}: <strong>{}</strong>, {}</p>\n<pre><code>{}</code></pre>", escaped(row.rank), escaped(row.what),
            escaped(row.total), escaped(row.command));
      }
      end();
    }
  }

  void notes() {
    const std::vector<std::string> list = all_notes(report_);
    if (list.empty() && !has_estimate(report_)) return;
    section("Notes");
    raw("<ul>");
    if (has_estimate(report_)) put("<li>{}</li>", escaped(kEstimateNote));
    for (const std::string& note : list) put("<li>{}</li>", escaped(note));
    raw("</ul>");
    end();
  }

  // Of the only footprint, else of the first cell.
  void formulas() {
    const Footprint* footprint = only_footprint(report_);
    if (footprint == nullptr && !report_.cells.empty()) footprint = &report_.cells.front().footprint;
    if (footprint == nullptr) return;
    section("How it was computed");
    if (only_footprint(report_) == nullptr) {
      put("<p class=\"soft\">The first cell of the table: {}.</p>",
          escaped(choice_words(report_, report_.cells.front().choice, false)));
    }
    raw("<div class=\"wide\">\n<table>");
    for (const Account& a : footprint->accounts) {
      put("<tbody>\n<tr class=\"part\"><th scope=\"rowgroup\">{}</th><td class=\"n\">{} B</td><td "
          "class=\"n\">{}</td></tr>",
          escaped(a.name), grouped(a.bytes.count), size_words(a.bytes, a.estimate));
      for (const Term& term : a.terms) {
        put("<tr><td class=\"term\">{}</td><td class=\"n\">{} B</td><td class=\"n\">{}</td></tr>", escaped(term.text),
            grouped(term.bytes.count), to_string(term.bytes));
      }
      raw("</tbody>");
    }
    put("<tfoot><tr><th scope=\"row\">total</th><td class=\"n\">{} B</td><td class=\"n\">{}</td></tr></tfoot>",
        grouped(footprint->total().count), size_words(footprint->total(), footprint->estimate()));
    raw("</table>\n</div>");
    raw("<p class=\"soft\">1 MiB is 1,048,576 bytes (B), 1 GiB 1,073,741,824.</p>");
    end();
  }

  const PlanReport& report_;
  std::string out_;
};

}  // namespace

std::string report_html(const PlanReport& report) { return Page(report).write(); }

}  // namespace axon
