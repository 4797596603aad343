#include "train/report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "io/test_files.h"
#include "train/line_chart.h"
#include "train/metrics.h"

namespace axon::train {
namespace {

using testing_files::Folder;

TrainMetrics trained(std::uint64_t step, double loss) {
  return {.step = step,
          .update = step / 2,
          .epoch = static_cast<double>(step) / 100,
          .loss = loss,
          .gradient_norm = 0.5,
          .learning_rate = 1e-4,
          .tokens = 100,
          .tokens_per_second = 50,
          .seconds = 2,
          .memory = 64_MiB,
          .ranks = 8};
}

History run(std::uint64_t steps) {
  History out;
  for (std::uint64_t step = 1; step <= steps; ++step) {
    out.add(trained(step, 3 + 1 / static_cast<double>(step)));
    if (step % 50 == 0) {
      out.add(ValidationMetrics{.step = step, .loss = 3.5 - 0.001 * static_cast<double>(step), .perplexity = 20});
    }
  }
  return out;
}

std::size_t count(std::string_view text, std::string_view part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

// The elements that are open at the end, or the first that does not fit: empty when all are closed in order.
std::string open_elements(std::string_view text) {
  std::vector<std::string> open;
  for (std::size_t at = text.find('<'); at != std::string_view::npos; at = text.find('<', at + 1)) {
    const std::size_t end = text.find('>', at);
    if (end == std::string_view::npos) return "a < without >";
    const std::string_view tag = text.substr(at + 1, end - at - 1);
    const std::string name(tag.substr(0, tag.find_first_of(" \n/", 1)));
    if (tag.starts_with('!') || tag.ends_with('/') || name == "meta") continue;
    if (!tag.starts_with('/')) {
      open.push_back(name);
      continue;
    }
    if (open.empty() || "/" + open.back() != tag) return "unexpected <" + std::string(tag) + ">";
    open.pop_back();
  }
  return open.empty() ? "" : open.back();
}

TEST(Curve, KeepsTheShapeOfARunOfAnyLength) {
  Curve curve;
  const std::uint64_t steps = 5 * Curve::kMost + 17;
  for (std::uint64_t step = 0; step < steps; ++step) curve.add(step, 2 * static_cast<double>(step));
  EXPECT_LE(curve.points().size(), Curve::kMost);
  EXPECT_GT(curve.points().size(), Curve::kMost / 2);
  for (const Curve::Point& point : curve.points()) EXPECT_NEAR(point.value, 2 * point.step, 1e-6);
  for (std::size_t i = 1; i < curve.points().size(); ++i) {
    ASSERT_LT(curve.points()[i - 1].step, curve.points()[i].step);
  }
  EXPECT_NEAR(curve.points().back().step, static_cast<double>(steps), 9);
}

TEST(Curve, LeavesOutWhatIsNoNumber) {
  Curve curve;
  curve.add(1, std::numeric_limits<double>::quiet_NaN());
  EXPECT_TRUE(curve.empty());
  curve.add(2, 5);
  ASSERT_EQ(curve.points().size(), 1u);
  EXPECT_EQ(curve.points()[0].step, 2);
}

TEST(Curve, SmoothedIsTheMeanOfHalvingWeights) {
  Curve curve;
  curve.add(1, 4);
  curve.add(2, 0);
  curve.add(3, 0);
  const std::vector<Curve::Point> smooth = curve.smoothed(1);
  EXPECT_DOUBLE_EQ(smooth[0].value, 4 / 1.75);
  EXPECT_DOUBLE_EQ(smooth[1].value, 2 / 2.0);
  EXPECT_DOUBLE_EQ(smooth[2].value, 1 / 1.75);
  EXPECT_EQ(smooth[2].step, 3);
}

TEST(History, SumsWhatItReads) {
  const Folder folder;
  {
    auto file = MetricsFile::create(folder / "metrics.jsonl");
    ASSERT_TRUE(file.ok());
    TrainMetrics line = trained(1, 4);
    line.paused_seconds = 3;
    ASSERT_TRUE(file.value().write(line).ok());
    line = trained(2, std::numeric_limits<double>::infinity());
    line.memory = 32_MiB;
    line.celsius = 70;
    ASSERT_TRUE(file.value().write(line).ok());
    ASSERT_TRUE(file.value().write(ValidationMetrics{.step = 2, .loss = 3, .perplexity = 20}).ok());
    ASSERT_TRUE(file.value().write(ValidationMetrics{.step = 3, .loss = 4, .perplexity = 55}).ok());
    for (std::size_t i = 0; i < History::kMostEvents + 2; ++i) {
      ASSERT_TRUE(file.value().write(EventMetrics{.step = 3, .event = "checkpoint"}).ok());
    }
  }
  auto read = read_history(folder / "metrics.jsonl");
  ASSERT_TRUE(read.ok()) << read.error().message;
  const History& h = read.value();
  EXPECT_EQ(h.tokens, 200u);
  EXPECT_EQ(h.seconds, 4);
  EXPECT_EQ(h.paused_seconds, 3);
  EXPECT_EQ(h.memory_peak, 64_MiB);
  EXPECT_EQ(h.not_finite, 1u);
  EXPECT_EQ(h.loss.points().size(), 1u);
  EXPECT_EQ(h.gradient_norm.points().size(), 1u);  // before the first update there is none
  EXPECT_EQ(h.celsius.points().size(), 1u);
  EXPECT_EQ(h.best_validation->step, 2u);
  EXPECT_EQ(h.last_validation->step, 3u);
  EXPECT_EQ(h.first->step, 1u);
  EXPECT_EQ(h.events.size(), History::kMostEvents);
  EXPECT_EQ(h.events_left_out, 2u);
  EXPECT_EQ(read_history(folder / "no").error().code, ErrorCode::kNotFound);
}

TEST(Report, SumsTheRunUp) {
  History h = run(100);
  EXPECT_EQ(summary_of(h),
            "Trained 100 steps (50 updates, 1.00 epochs) in 3 min; the loss went from 3.556 to 3.010; the best "
            "validation loss was 3.400 (perplexity 20.00) at step 100; 50.0 tokens/s on average; at most 64.0 MiB of "
            "memory.");
  TrainMetrics hot = trained(101, std::nan(""));
  hot.paused_seconds = 7500;
  h.add(hot);
  EXPECT_NE(summary_of(h).find("paused for heat: 2 h 5 min"), std::string::npos) << summary_of(h);
  EXPECT_NE(summary_of(h).find("The loss of 1 steps was not a finite number."), std::string::npos) << summary_of(h);
  EXPECT_EQ(summary_of({}), "No step was recorded.");
}

TEST(Report, IsOnePageThatNeedsNothingElse) {
  TrainingReport report{.title = "adapters <1>",
                        .settings = {{"learning rate", "1e-4"}, {"data", "a & b.jsonl"}},
                        .memory = {{"adapters", 2_MiB, 2_MiB}, {"process", 8_MiB, 7_MiB}},
                        .history = run(300)};
  report.history.add(EventMetrics{.step = 0, .event = "start", .detail = "<b>"});
  const std::string page = training_report_html(report);
  EXPECT_EQ(open_elements(page), "");
  for (const std::string_view part : {"<script", "http://", "https://", "url(", "@import", "<b>"}) {
    EXPECT_EQ(count(page, part), part == "http://" ? 4u : 0u) << part;  // four pictures name SVG
  }
  EXPECT_EQ(count(page, "http://www.w3.org/2000/svg"), 4u);
  for (const std::string_view part :
       {"Training: adapters &lt;1&gt;", "<dt>data</dt><dd>a &amp; b.jsonl</dd>", "prefers-color-scheme:dark", ">Loss<",
        ">Learning rate<", ">Gradient norm<", ">Speed<", "Trained 300 steps", ">validation<",
        "<tr><th scope=\"row\">process</th><td class=\"n\">8.0 MiB</td><td class=\"n\">7.0 MiB</td></tr>",
        "<th scope=\"row\">total</th><td class=\"n\">10.0 MiB</td><td class=\"n\">9.0 MiB</td>",
        "<td>&lt;b&gt;</td>"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(page.find("Temperature"), std::string::npos);
  EXPECT_EQ(page.find("Reward margin"), std::string::npos);
}

TEST(Report, ShowsHeatAndWhatWasDoneAboutIt) {
  TrainingReport report{.title = "t"};
  for (std::uint64_t step = 1; step <= 100; ++step) {
    TrainMetrics line = trained(step, 2);
    line.celsius = 60 + 0.3 * static_cast<double>(step);
    report.history.add(line);
    const auto thermal = [&](std::string state) {
      report.history.add(EventMetrics{.step = step, .event = "thermal", .detail = "why", .state = std::move(state)});
    };
    if (step == 50) thermal("half-rank");
    if (step == 70) thermal("pause");
    if (step == 80) thermal("full");
    if (step == 95) thermal("half-rank");
  }
  const std::string page = training_report_html(report);
  EXPECT_NE(page.find(">Temperature<"), std::string::npos);
  EXPECT_EQ(count(page, "<rect class=\"held\""), 2u);
  EXPECT_EQ(count(page, "<rect class=\"held grave\""), 1u);
  EXPECT_NE(page.find("<td>pause: why</td>"), std::string::npos);
  EXPECT_NE(page.find("\nhalf-rank</title>"), std::string::npos);
}

TEST(Report, ShowsTheMarginOfPairs) {
  TrainingReport report{.title = "t"};
  TrainMetrics line = trained(1, 2);
  line.pairs = {.reward_margin = 0.5, .reward_accuracy = 1};
  report.history.add(line);
  const std::string page = training_report_html(report);
  EXPECT_NE(page.find(">Reward margin<"), std::string::npos);
  EXPECT_NE(page.find(">Reward accuracy<"), std::string::npos);
}

TEST(Report, OfNothingIsStillAPage) {
  const std::string page = training_report_html({.title = "t"});
  EXPECT_EQ(open_elements(page), "");
  EXPECT_NE(page.find("No step was recorded."), std::string::npos);
  EXPECT_EQ(count(page, "Nothing was recorded."), 4u);
}

TEST(Report, ReplacesTheOneBefore) {
  const Folder folder;
  const std::string path = folder / "report.html";
  ASSERT_TRUE(write_training_report(path, {.title = "first"}).ok());
  ASSERT_TRUE(write_training_report(path, {.title = "second"}).ok());
  EXPECT_NE(testing_files::get(path).find("Training: second"), std::string::npos);
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(LossPicture, StandsAlone) {
  const std::string svg = loss_svg(run(300), "Loss of a & b");
  EXPECT_EQ(open_elements(svg), "");
  EXPECT_TRUE(svg.starts_with("<svg"));
  EXPECT_NE(svg.find("<style>"), std::string::npos);
  EXPECT_NE(svg.find("Loss of a &amp; b"), std::string::npos);
  EXPECT_EQ(count(svg, "class=\"dot\""), 6u + 1u);  // validations, and the legend
}

// Every place of the lines is inside of the picture, at the right height.
TEST(LineChart, PutsValuesWhereTheTicksSay) {
  const LineChart chart{
      .title = "t", .unit = "u", .lines = {{"a", ChartLine::Look::kStrong, {{0, 0}, {5, 10}, {10, 5}}}}};
  const std::string svg = line_chart_svg(chart, ChartStyle::kInside);
  const std::size_t at = svg.find("<path class=\"line strong\" d=\"M", svg.find("viewBox", svg.find("viewBox") + 1));
  ASSERT_NE(at, std::string::npos) << svg;
  double x[3], y[3];
  ASSERT_EQ(std::sscanf(svg.c_str() + at, "<path class=\"line strong\" d=\"M%lf,%lfL%lf,%lfL%lf,%lf", &x[0], &y[0],
                        &x[1], &y[1], &x[2], &y[2]),
            6);
  EXPECT_EQ(y[0], 230);  // the axis
  EXPECT_EQ(y[1], 46);   // the top
  EXPECT_EQ(y[2], 138);
  EXPECT_NEAR(x[1], (x[0] + x[2]) / 2, 0.1);
  EXPECT_EQ(x[2], 826);
  for (const std::string_view tick : {">0<", ">2<", ">4<", ">6<", ">8<", ">10<"}) {
    EXPECT_NE(svg.find(tick), std::string::npos) << tick;
  }
}

TEST(LineChart, OneValueAndEqualValuesAreDrawn) {
  for (const double value : {0.0, 1.0, -3.0, 1e-300, 1e300}) {
    for (const std::size_t points : {1u, 2u}) {
      LineChart chart{.title = "t", .unit = "", .lines = {{"a", ChartLine::Look::kDots, {}}}};
      for (std::size_t i = 0; i < points; ++i) chart.lines[0].points.push_back({static_cast<double>(i), value});
      const std::string svg = line_chart_svg(chart, ChartStyle::kInside);
      EXPECT_EQ(svg.find("nan"), std::string::npos) << value;
      EXPECT_EQ(svg.find("inf"), std::string::npos) << value;
      EXPECT_EQ(count(svg, "class=\"dot\""), points + 1) << value;
      EXPECT_LT(svg.size(), 20'000u) << value;
    }
  }
}

TEST(LineChart, ASpikeOfRawValuesDoesNotFlattenTheRest) {
  LineChart chart{.title = "t", .unit = "", .lines = {{"a", ChartLine::Look::kFaint, {}}}};
  for (std::size_t i = 0; i < 1000; ++i) chart.lines[0].points.push_back({static_cast<double>(i), i == 3 ? 1e6 : 2.0});
  EXPECT_EQ(line_chart_svg(chart, ChartStyle::kInside).find(">1e+06<"), std::string::npos);
}

}  // namespace
}  // namespace axon::train
