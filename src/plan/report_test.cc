// What a plan looks like: nothing misaligned, nothing that hangs on colour alone, no sum that is not the sum of what is
// shown, and a page that holds together whatever a model is called.

#include "plan/report.h"
#include "plan/kv_costs.h"

#include <algorithm>
#include <cmath>
#include <regex>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "plan/report_chart.h"
#include "plan/report_words.h"

namespace axon {
namespace {

Account account(std::string name, Bytes bytes, bool estimate = false) {
  Account out;
  out.name = std::move(name);
  out.bytes = bytes;
  out.estimate = estimate;
  out.terms = {{"all of it", bytes}};
  return out;
}

// Weights of 1.5 GiB, keys and values of 80 KiB a token.
Footprint footprint(std::uint64_t context) {
  Footprint out;
  out.accounts = {account("weights: embedding", 512_MiB), account("weights: layers", 1_GiB),
                  account("kv cache", Bytes{context * 80 * 1024}), account("workspace", 64_MiB, true),
                  account("logits", 0_B)};
  return out;
}

PlanCell cell(const PlanReport& report, std::uint64_t context, std::string weights, std::string kv) {
  PlanCell out;
  out.choice.context = context;
  out.choice.weights = std::move(weights);
  out.choice.kv = std::move(kv);
  out.footprint = footprint(context);
  out.fits = out.footprint.total() <= report.budget.limit;
  return out;
}

PlanReport report_of(const std::vector<std::uint64_t>& contexts, const std::vector<std::string>& weights = {"q4"},
                     const std::vector<std::string>& kv = {"fp16"}) {
  PlanReport report;
  report.facts.target = report.facts.title = "Some Model";
  report.facts.family = "bit_axon";
  report.facts.evidence = "preset";
  report.facts.context_max = 65536;
  report.facts.runs_here = true;
  report.machine.name = "this machine";
  report.machine.processors = 2;
  report.machine.memory.physical = 16_GiB;
  report.machine.memory.available = 12_GiB;
  report.budget = {4_GiB, "--memory-budget"};
  report.contexts = contexts;
  report.weights = weights;
  report.kv = kv;
  for (const std::string& k : kv) {
    for (const std::string& w : weights) {
      for (const std::uint64_t c : contexts) report.cells.push_back(cell(report, c, w, k));
    }
  }
  for (std::uint64_t c = 1024; c <= 65536; c *= 2) report.curve.push_back(cell(report, c, weights[0], kv[0]));
  return report;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t from = 0; from < text.size();) {
    const std::size_t end = std::min(text.find('\n', from), text.size());
    out.push_back(text.substr(from, end - from));
    from = end + 1;
  }
  return out;
}

std::string line_with(const std::string& text, std::string_view part) {
  for (const std::string& line : lines_of(text)) {
    if (line.find(part) != std::string::npos) return line;
  }
  ADD_FAILURE() << "no line has \"" << part << "\" in\n" << text;
  return "";
}

std::string plain_text(const PlanReport& report, std::size_t columns = 100) {
  return report_text(report, {.colour = false, .columns = columns});
}

// Where `part` ends, in columns.
std::size_t end_of(const std::string& line, std::string_view part) {
  const std::size_t at = line.find(part);
  EXPECT_NE(at, std::string::npos) << "\"" << part << "\" is not in \"" << line << "\"";
  return at == std::string::npos ? 0 : display_width(line.substr(0, at + part.size()));
}

std::size_t eighths(const std::string& line) {
  static constexpr std::string_view kBlocks[] = {"▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"};
  std::size_t out = 0;
  for (std::size_t n = 0; n < 8; ++n) {
    for (std::size_t at = line.find(kBlocks[n]); at != std::string::npos; at = line.find(kBlocks[n], at + 1))
      out += n + 1;
  }
  return out;
}

std::size_t occurrences(const std::string& text, std::string_view part) {
  std::size_t out = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++out;
  return out;
}

std::string without_colour(const std::string& text) {
  return std::regex_replace(text, std::regex("\x1b\\[[0-9]+m"), "");
}

TEST(ReportWords, NumbersOfParameters) {
  EXPECT_EQ(short_count(3'210'000'000), "3.21 B");
  EXPECT_EQ(short_count(65'536'000), "65.5 M");
  EXPECT_EQ(short_count(999'999'999), "1.00 B");
  EXPECT_EQ(short_count(671'000'000'000), "671 B");
  EXPECT_EQ(short_count(1'040'000'000'000), "1.04 T");
  EXPECT_EQ(short_count(12'345), "12,345");
}

TEST(ReportWords, FactsAndMachineInRows) {
  PlanReport report = report_of({4096});
  report.facts.parameters = 3'210'000'000;
  report.facts.active = 1'400'000'000;
  report.facts.layers = {{"ssm", 8, 0}, {"sliding attention", 8, 4096}};
  report.facts.source = "somewhere";
  report.machine.memory.cgroup_limit = 8_GiB;
  report.machine.memory.cgroup_spare = 5_GiB;
  report.machine.memory.swap_total = 2_GiB;
  report.machine.memory.swap_free = 1_GiB;
  report.machine.memory.transparent_huge_pages = "madvise";
  const std::string text = plain_text(report);
  EXPECT_EQ(line_with(text, "family"), "  family         bit_axon (from preset)");
  EXPECT_EQ(line_with(text, "parameters"), "  parameters     3.21 B, 1.40 B active");
  EXPECT_EQ(line_with(text, "layers  "), "  layers         8 ssm, 8 sliding attention (window 4,096)");
  EXPECT_EQ(line_with(text, "source"), "  source         somewhere");
  EXPECT_EQ(line_with(text, "machine"), "  machine        this machine, 2 cores");
  EXPECT_EQ(line_with(text, "available"), "  memory         16.00 GiB, 12.00 GiB available now");
  EXPECT_EQ(line_with(text, "control group"), "  control group  limit 8.00 GiB, 5.00 GiB left");
  EXPECT_EQ(line_with(text, "swap"), "  swap           2.00 GiB, 1.00 GiB free; never counted");
  EXPECT_EQ(line_with(text, "huge pages"), "  huge pages     madvise");
  EXPECT_EQ(line_with(text, "budget"), "  budget         4.00 GiB (--memory-budget)");
  EXPECT_EQ(text.find("target"), std::string::npos) << "the title says it already";
}

TEST(ReportWords, AnotherMachineIsItsMemoryLessReserves) {
  PlanReport report = report_of({4096});
  report.machine = {};
  report.machine.this_machine = false;
  report.machine.name = "Mac mini, 16 GB";
  report.machine.ram = 16_GiB;
  report.machine.gpu_budget = 9_GiB;
  report.machine.reserves.push_back({"the system", 2_GiB, "a manual"});
  report.machine.reserves.push_back({"apps", 1_GiB, ""});
  const std::string text = plain_text(report);
  EXPECT_EQ(line_with(text, "machine"), "  machine        Mac mini, 16 GB");
  EXPECT_EQ(line_with(text, "a manual"), "  less           2.00 GiB for the system (a manual)");
  EXPECT_EQ(line_with(text, "apps"), "                 1.00 GiB for apps");
  EXPECT_EQ(line_with(text, "gpu"), "  gpu            a run there would have 9.00 GiB");
  EXPECT_EQ(text.find("available"), std::string::npos);
}

TEST(ReportText, AccountsStandInColumns) {
  const std::string text = plain_text(report_of({4096}));
  const std::size_t end = end_of(line_with(text, "weights: embedding"), "512.0 MiB");
  EXPECT_EQ(end_of(line_with(text, "weights: layers"), "1.00 GiB"), end);
  EXPECT_EQ(end_of(line_with(text, "kv cache"), "320.0 MiB"), end);
  EXPECT_EQ(end_of(line_with(text, "workspace"), "~64.0 MiB"), end);
  EXPECT_EQ(end_of(line_with(text, "logits"), "0 B"), end);
  EXPECT_EQ(end_of(line_with(text, "  total"), "~1.88 GiB"), end);
  const std::size_t share = end_of(line_with(text, "weights: layers"), "53 %");
  EXPECT_EQ(end_of(line_with(text, "kv cache"), "17 %"), share);
  EXPECT_EQ(end_of(line_with(text, "logits"), "0 %"), share);
}

// A line each where the cache matters, one in all where it hardly does.
TEST(ReportText, SmallerCaches) {
  const auto with = [](std::uint64_t context, Bytes budget) {
    PlanReport report = report_of({context});
    report.budget.limit = budget;
    report.cells[0].fits = report.cells[0].footprint.total() <= budget;
    report.smaller_kv = {{"q8", 100_MiB, 220_MiB, 1_GiB}, {"tq3.5", 50_MiB, 1270_MiB, 900_MiB}};
    return report;
  };
  const std::string text = plain_text(with(4096, 4_GiB));
  EXPECT_NE(text.find("\n\nsmaller kv caches\n"), std::string::npos) << text;
  EXPECT_EQ(line_with(text, "--kv q8"),
            "  --kv q8     100.0 MiB  saves 220.0 MiB  " + kv_cost_words(find_kv_cost("q8")));
  EXPECT_EQ(line_with(text, "--kv tq3.5"),
            "  --kv tq3.5   50.0 MiB  saves  1.24 GiB  " + kv_cost_words(find_kv_cost("tq3.5")));
  EXPECT_NE(text.find(kv_costs_source()), std::string::npos);
  for (const std::string& line : lines_of(text)) EXPECT_LE(display_width(line), 120u) << line;
  EXPECT_NE(report_html(with(4096, 4_GiB)).find("<h2>Smaller KV caches</h2>"), std::string::npos);
  const std::string little = plain_text(with(128, 4_GiB));
  EXPECT_EQ(little.find("smaller kv caches"), std::string::npos);
  EXPECT_EQ(line_with(little, "kv cache is"), "note: the kv cache is 1 % of the total; --kv tq3.5 would save 1.24 GiB");
  EXPECT_NE(plain_text(with(128, 1_GiB)).find("smaller kv caches"), std::string::npos) << "it does not fit";
  EXPECT_EQ(plain_text(report_of({4096})).find("--kv"), std::string::npos);
}

TEST(ReportText, BarsAreProportional) {
  PlanReport report = report_of({4096});
  report.cells[0].footprint.accounts.push_back(account("small", 1_B));
  const std::string text = plain_text(report);
  EXPECT_EQ(eighths(line_with(text, "weights: layers")), 30 * 8u);
  EXPECT_EQ(eighths(line_with(text, "weights: embedding")), 15 * 8u);
  EXPECT_EQ(eighths(line_with(text, "kv cache")), 75u);  // 320 of 1024, of 240
  EXPECT_EQ(eighths(line_with(text, "small")), 1u) << "something is not nothing";
  EXPECT_EQ(eighths(line_with(text, "logits")), 0u);
  for (const std::size_t columns : {40u, 54u, 66u, 80u}) {
    for (const std::string& line : lines_of(plain_text(report, columns))) {
      EXPECT_TRUE(eighths(line) == 0 || display_width(line) <= columns) << line;
    }
  }
  EXPECT_EQ(eighths(plain_text(report, 40)), 0u) << "no room";
}

TEST(ReportText, ColourOnlyWhereAsked) {
  for (const PlanReport& report : {report_of({4096}), report_of({1024, 65536}, {"q4", "q8"})}) {
    const std::string plain = plain_text(report), colour = report_text(report, {.colour = true, .columns = 100});
    EXPECT_EQ(plain.find('\x1b'), std::string::npos);
    EXPECT_NE(colour.find("\x1b[32m"), std::string::npos);
    EXPECT_EQ(without_colour(colour), plain);
    for (const std::string& line : lines_of(plain)) EXPECT_TRUE(line.empty() || line.back() != ' ') << line;
  }
}

TEST(ReportText, NamesFromFilesCannotSteerTheTerminal) {
  PlanReport report = report_of({4096});
  report.facts.title = "evil\x1b[2J";
  report.cells[0].footprint.accounts[0].name = "w\x1b]0;";
  report.cells[0].footprint.notes = {"n\x07"};
  EXPECT_EQ(plain_text(report).find_first_of("\x1b\x07"), std::string::npos);
}

TEST(ReportText, MatrixMarksEachCell) {
  // 80 KiB a token: 2 GiB of the limit of 4 GiB are left for 26,214 tokens.
  const PlanReport report = report_of({1024, 16384, 65536}, {"keep", "q4"}, {"fp16", "tq3"});
  const std::string text = plain_text(report);
  const std::string head = line_with(text, "1,024"), row = line_with(text, "as stored  fp16");
  EXPECT_EQ(row, "  as stored  fp16  ~1.64 GiB ok  ~2.81 GiB ok  ~6.56 GiB x");
  EXPECT_EQ(head, "  weights    kv        1,024        16,384        65,536");
  EXPECT_EQ(end_of(head, "16,384"), end_of(row, "~2.81 GiB"));
  EXPECT_EQ(occurrences(text, "GiB ok"), 8u);
  EXPECT_EQ(occurrences(text, "GiB x"), 4u);
  EXPECT_LT(text.find("as stored  tq3"), text.find("q4         tq3"));
  EXPECT_LT(text.find("q4         fp16"), text.find("as stored  tq3")) << "kv is the slowest index";
}

TEST(ReportText, MatrixCellsAreWhereTheirIndexSays) {
  PlanReport report = report_of({1024, 16384}, {"q8", "q4"}, {"fp16", "tq3"});
  for (std::size_t i = 0; i < report.cells.size(); ++i) {
    report.cells[i].footprint.accounts = {account("weights", Bytes{(i + 1) << 30})};
  }
  const std::string text = plain_text(report);
  EXPECT_EQ(line_with(text, "q8       fp16"), "  q8       fp16  1.00 GiB ok  2.00 GiB ok");
  EXPECT_EQ(line_with(text, "q4       fp16"), "  q4       fp16  3.00 GiB ok  4.00 GiB ok");
  EXPECT_EQ(line_with(text, "q8       tq3"), "  q8       tq3   5.00 GiB ok  6.00 GiB ok");
}

TEST(ReportText, WideMatrixIsBrokenIntoBlocks) {
  std::vector<std::uint64_t> contexts;
  for (std::uint64_t c = 1024; contexts.size() < 12; c *= 2) contexts.push_back(c);
  const PlanReport report = report_of(contexts, {"q4", "q8"});
  for (const std::size_t columns : {40u, 60u, 100u}) {
    const std::string text = plain_text(report, columns);
    for (const std::uint64_t c : contexts) EXPECT_NE(text.find(grouped(c)), std::string::npos) << c;
    EXPECT_EQ(occurrences(text, "GiB ok") + occurrences(text, "GiB x"), 24u);
    for (const std::string& line : lines_of(text)) {
      EXPECT_TRUE(line.find("GiB ok") == std::string::npos || display_width(line) <= columns) << line;
    }
  }
}

TEST(ReportText, EstimatesAreMarkedAndExplainedOnce) {
  PlanReport report = report_of({4096});
  const std::string text = plain_text(report);
  EXPECT_EQ(occurrences(text, "~ marks an estimate"), 1u);
  EXPECT_EQ(line_with(text, "weights: layers").find('~'), std::string::npos);
  for (PlanCell& c : report.cells) c.footprint.accounts[3].estimate = false;
  for (PlanCell& c : report.curve) c.footprint.accounts[3].estimate = false;
  EXPECT_EQ(plain_text(report).find('~'), std::string::npos);
  EXPECT_EQ(report_html(report).find('~'), std::string::npos);
}

TEST(ReportText, VerdictSaysWhatIsLeftOrWouldFit) {
  PlanReport report = report_of({4096});
  EXPECT_EQ(line_with(plain_text(report), "spare"),
            "fits: ~1.88 GiB of 4.00 GiB (--memory-budget), ~2.12 GiB to spare");
  report.budget = {1_GiB, "available memory"};
  report.cells[0].fits = false;
  report.ways = {{"--context 1024", 900_MiB}, {"--weights q3", 950_MiB}};
  report.cells[0].footprint.cannot_run = "no kernels";
  report.cells[0].footprint.notes = {"a note"};
  const std::string text = plain_text(report);
  EXPECT_EQ(line_with(text, "does not fit"),
            "does not fit: ~1.88 GiB of 1.00 GiB (available memory), ~896.0 MiB too much; the largest account is "
            "\"weights: layers\", 1.00 GiB");
  EXPECT_NE(text.find("\n  would fit: --context 1024, ~900.0 MiB\n  would fit: --weights q3, ~950.0 MiB\n"),
            std::string::npos);
  EXPECT_NE(text.find("\ncannot run: no kernels\nnote: a note\n"), std::string::npos);
  EXPECT_FALSE(report.fits());
}

TEST(ReportText, MatrixVerdictSaysHowFarEachRowGoes) {
  PlanReport report = report_of({1024, 16384, 65536}, {"q4", "q8"});
  for (std::size_t c = 3; c < 6; ++c) report.cells[c].fits = false;
  const std::string text = plain_text(report);
  EXPECT_NE(text.find("\nfits: 2 of 6 within 4.00 GiB (--memory-budget)\n  q4 up to 16,384 tokens\n"
                      "  q8 at no context\n"),
            std::string::npos)
      << text;
  for (PlanCell& c : report.cells) c.fits = false;
  EXPECT_EQ(line_with(plain_text(report), "does not fit"),
            "does not fit: none of 6 within 4.00 GiB (--memory-budget); the smallest, q4 at 1,024 tokens, takes "
            "~1.64 GiB");
}

TEST(ReportText, NotesOfAllCellsOnce) {
  PlanReport report = report_of({1024, 4096, 8192});
  report.cells[0].footprint.notes = {"same"};
  report.cells[1].footprint.notes = {"same", "other"};
  const std::string text = plain_text(report);
  EXPECT_EQ(occurrences(text, "note: same\n"), 1u);
  EXPECT_EQ(occurrences(text, "note: other\n"), 1u);
}

TEST(ReportText, TrainingHasItsAccounts) {
  PlanReport report = report_of({4096});
  report.facts.runs_here = false;
  report.cells.clear();
  report.curve.clear();
  report.training = footprint(2048);
  report.train.settings.rank = 8;
  const std::string text = plain_text(report);
  EXPECT_EQ(line_with(text, "training"),
            "training: base q4, rank 8, batch 1 x 2,048 tokens, adamw, with checkpointing");
  EXPECT_NE(line_with(text, "kv cache").find("160.0 MiB"), std::string::npos);
  EXPECT_TRUE(report.fits());
  report.budget.limit = 1_GiB;
  EXPECT_FALSE(report.fits());
  EXPECT_NE(report_html(report).find("Memory plan for training: base q4, rank 8"), std::string::npos);
}

TEST(ReportText, OurTrainingNamesItsSettings) {
  PlanReport report = report_of({4096});
  report.cells.clear();
  report.curve.clear();
  report.facts.runs_here = true;
  report.training = footprint(2048);
  EXPECT_EQ(line_with(plain_text(report), "training"),
            "training: sft, lora, base q4, rank 16, batch 1 x 2,048 tokens, chunk 512, 1 thread, mixed arithmetic");
  train::TrainSettings& s = report.train.settings;
  s.objective = train::Objective::kPreference;
  s.adapter = AdapterKind::kDora;
  s.targets = {"attention"};
  s.dropout = 0.5;
  s.pack = s.exact = true;
  EXPECT_EQ(
      line_with(plain_text(report), "training"),
      "training: orpo, dora, base q4, rank 16, batch 1 x 2,048 tokens, targets attention, dropout 0.5, packed, chunk "
      "512, 1 thread, exact arithmetic");
  report.ways = {{"--max-seq-len 1024", 1_MiB}};
  report.budget.limit = 1_GiB;
  EXPECT_NE(plain_text(report).find("would fit: --max-seq-len 1024, ~1.0 MiB"), std::string::npos);
}

PlanReport with_solutions() {
  PlanReport report = report_of({4096});
  Solution found;
  found.best_of_all = true;
  found.best.emplace();
  found.best->what = "context 65,536";
  found.best->total = 3_GiB;
  found.best->command = "bit-axon run --context 65536";
  found.cheaper.push_back(*found.best);
  found.cheaper[0].what = "context 8,192";
  found.cheaper[0].command = "bit-axon run --context 8192";
  Solution none;
  none.what = SolveFor::kWeights;
  none.smallest.emplace();
  none.smallest->what = "weights ternary";
  none.smallest->total = 9_GiB;
  report.solutions = {found, none};
  return report;
}

TEST(ReportText, SolutionsWithTheirCommands) {
  PlanReport report = with_solutions();
  const std::string text = plain_text(report), html = report_html(report);
  EXPECT_NE(text.find("\nlongest context that fits 4.00 GiB\n"
                      "  best     context 65,536 (the model's maximum)  ~3.00 GiB\n"
                      "           bit-axon run --context 65536\n"
                      "  cheaper  context 8,192                         ~3.00 GiB\n"
                      "           bit-axon run --context 8192\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("  nothing fits: the smallest, weights ternary, takes ~9.00 GiB\n"), std::string::npos);
  EXPECT_NE(html.find("<code>bit-axon run --context 8192</code>"), std::string::npos);
  EXPECT_NE(html.find("nothing fits: the smallest, weights ternary, takes ~9.00 GiB"), std::string::npos);
  report.cells.clear();
  EXPECT_TRUE(report.fits());
  report.solutions.erase(report.solutions.begin());
  EXPECT_FALSE(report.fits());
}

TEST(ExplainText, TermsAndTheirSum) {
  Footprint f = footprint(4096);
  f.accounts[2].terms = {{"keys: 4,096 x 40 KiB", 160_MiB}, {"values", 160_MiB}};
  Result<std::string> text = explain_text(f, "kv cache");
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(text.value(),
            "kv cache\n"
            "  keys: 4,096 x 40 KiB  167,772,160 B  160.0 MiB\n"
            "  values                167,772,160 B  160.0 MiB\n"
            "  sum                   335,544,320 B  320.0 MiB\n");
  Result<std::string> estimate = explain_text(f, "workspace");
  ASSERT_TRUE(estimate.ok());
  EXPECT_TRUE(estimate.value().starts_with("workspace, an estimate\n"));
}

TEST(ExplainText, TheBeginningOfNamesMeansAllOfThem) {
  Result<std::string> text = explain_text(footprint(4096), "weights");
  ASSERT_TRUE(text.ok());
  EXPECT_NE(text.value().find("weights: embedding\n"), std::string::npos);
  EXPECT_EQ(lines_of(text.value()).back(), "  sum of all  1,610,612,736 B   1.50 GiB");
}

TEST(ExplainText, AnUnknownAccountIsToldWhichThereAre) {
  for (const std::string_view name : {"wieghts", ""}) {
    const Result<std::string> text = explain_text(footprint(4096), name);
    ASSERT_FALSE(text.ok());
    EXPECT_EQ(text.error().code, ErrorCode::kNotFound);
    EXPECT_EQ(text.error().message,
              fmt::format("no account \"{}\": there are \"weights: embedding\", \"weights: layers\", \"kv cache\", "
                          "\"workspace\", \"logits\"",
                          name));
  }
}

// Elements that were opened, in the order in which they were closed; what is wrong goes to the test's failures.
std::vector<std::string> elements(const std::string& html) {
  static const std::regex tag("<(/?)([a-zA-Z][a-zA-Z0-9]*)((?: [a-zA-Z-]+[0-9]?=\"[^\"<>]*\")*)(/?)>");
  std::vector<std::string> open, closed;
  std::size_t tags = 0;
  for (auto at = std::sregex_iterator(html.begin(), html.end(), tag); at != std::sregex_iterator(); ++at, ++tags) {
    const std::string name = (*at)[2];
    if ((*at)[4].length() > 0 || name == "meta" || name == "br") continue;
    if ((*at)[1].length() == 0) {
      open.push_back(name);
      continue;
    }
    if (open.empty() || open.back() != name) {
      ADD_FAILURE() << "</" << name << "> closes " << (open.empty() ? "nothing" : open.back());
      return closed;
    }
    closed.push_back(name);
    open.pop_back();
  }
  EXPECT_TRUE(open.empty()) << open.back() << " is not closed";
  EXPECT_EQ(occurrences(html, "<"), tags + 1) << "a \"<\" that begins no element";  // and the doctype
  return closed;
}

std::vector<PlanReport> extreme_reports() {
  std::vector<PlanReport> out = {report_of({4096}), report_of({1024, 16384, 65536}, {"keep", "q4"}, {"fp16", "tq3"}),
                                 with_solutions()};
  PlanReport one_point = report_of({4096});
  one_point.curve.resize(1);
  out.push_back(one_point);
  PlanReport no_curve = report_of({4096});
  no_curve.curve.clear();
  out.push_back(no_curve);
  PlanReport nothing = report_of({4096});
  for (PlanCell& c : nothing.curve) {
    for (Account& a : c.footprint.accounts) a.bytes = 0_B;
  }
  nothing.cells[0].footprint = nothing.curve[0].footprint;
  out.push_back(nothing);
  PlanReport huge = report_of({4096});
  for (PlanCell& c : huge.curve) c.footprint.accounts[2].bytes = Bytes{400ull << 40};
  huge.facts.title = std::string(200, 'M');
  out.push_back(huge);
  PlanReport high = report_of({4096}), low = report_of({4096}), many = report_of({4096});
  high.budget.limit = Bytes{1ull << 50};
  low.budget.limit = 1_B;
  for (PlanCell& c : many.curve) {
    for (int i = 0; i < 20; ++i) c.footprint.accounts.push_back(account(fmt::format("account {}", i), 300_MiB));
  }
  out.insert(out.end(), {high, low, many});
  PlanReport crowded = report_of({4096});  // thin areas under the upper edge
  for (PlanCell& c : crowded.curve) {
    c.footprint.accounts = {account("weights", 3900_MiB)};
    for (int i = 0; i < 6; ++i) c.footprint.accounts.push_back(account(fmt::format("thin {}", i), 30_MiB));
  }
  out.push_back(crowded);
  PlanReport dense = report_of({4096});
  while (dense.curve.size() < 40) {
    dense.curve.push_back(cell(dense, dense.curve.back().choice.context * 5 / 4, "q4", "fp16"));
  }
  out.push_back(dense);
  PlanReport unsaid = report_of({0});
  unsaid.facts = {};
  unsaid.curve.resize(1);
  unsaid.curve[0].choice.context = 0;
  out.push_back(unsaid);
  return out;
}

TEST(ReportHtml, HoldsTogether) {
  for (const PlanReport& report : extreme_reports()) {
    const std::string html = report_html(report);
    const std::vector<std::string> names = elements(html);
    EXPECT_TRUE(html.starts_with("<!DOCTYPE html>\n<html lang=\"en\">"));
    EXPECT_EQ(std::count(names.begin(), names.end(), "svg"), report.curve.empty() ? 0 : 1);
    EXPECT_EQ(html.find("nan"), std::string::npos);
    EXPECT_EQ(html.find("inf\""), std::string::npos);
    for (const std::string_view outside : {"<script", "<link", "<img", "src=", "href=", "url(", "@import"}) {
      EXPECT_EQ(html.find(outside), std::string::npos) << outside;
    }
    EXPECT_NE(html.find("prefers-color-scheme:dark"), std::string::npos);
    EXPECT_NE(html.find("tabular-nums"), std::string::npos);
  }
}

TEST(ReportHtml, NamesAreText) {
  const std::string evil = "\"><script>alert('x')</script>&amp;\x01\xFF";
  PlanReport report = report_of({1024, 4096}, {evil}, {evil});
  report.facts.title = report.facts.target = report.facts.family = report.facts.evidence = evil;
  report.facts.source = report.facts.stored = report.machine.name = report.budget.source = evil;
  report.facts.layers = {{evil, 1, 0}};
  for (std::vector<PlanCell>* cells : {&report.cells, &report.curve}) {
    for (PlanCell& c : *cells) {
      c.footprint.notes = {evil};
      c.footprint.cannot_run = evil;
      for (Account& a : c.footprint.accounts) a.name = a.terms[0].text = evil;
    }
  }
  PlanReport single = report;
  single.cells.resize(1);
  single.solutions = with_solutions().solutions;
  single.solutions[0].best->what = single.solutions[0].best->command = evil;
  for (const PlanReport& r : {report, single}) {
    const std::string html = report_html(r);
    elements(html);
    EXPECT_EQ(html.find("<script"), std::string::npos);
    EXPECT_NE(html.find("&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;amp;\xEF\xBF\xBD"),
              std::string::npos);
    EXPECT_EQ(html.find_first_of("\x01\xFF"), std::string::npos);
  }
}

TEST(ReportHtml, BarsAndMarks) {
  const std::string one = report_html(report_of({4096}));
  EXPECT_NE(one.find("512.0 MiB</td><td class=\"n\">27 %</td><td class=\"bar\"><i style=\"width:50.00%\"></i>"),
            std::string::npos);
  EXPECT_NE(one.find("<strong>fits</strong>: ~1.88 GiB of 4.00 GiB"), std::string::npos);
  EXPECT_EQ(occurrences(one, "<li><i class=\"s"), chart_series(report_of({4096}).curve).size());
  const std::string matrix = report_html(report_of({1024, 65536}, {"q4", "q8"}));
  EXPECT_EQ(occurrences(matrix, "<td class=\"n fits\">~1.64 GiB<small>fits</small></td>"), 2u);
  EXPECT_EQ(occurrences(matrix, "<td class=\"n over\">~6.56 GiB<small>over</small></td>"), 2u);
}

TEST(Report, MemoryIsNeverInMegabytes) {
  for (PlanReport report : extreme_reports()) {
    EXPECT_EQ(plain_text(report).find("MB"), std::string::npos);
    EXPECT_EQ(report_html(report).find("MB"), std::string::npos);
  }
}

TEST(ChartSeries, SumToTheTotals) {
  EXPECT_TRUE(rc::check([] {
    const auto points = *rc::gen::inRange<std::size_t>(1, 6), accounts = *rc::gen::inRange<std::size_t>(0, 30);
    std::vector<PlanCell> curve(points);
    for (std::size_t a = 0; a < accounts; ++a) {
      const std::string name = fmt::format("{}{}", *rc::gen::element<std::string>("weights: ", "other "), a);
      const auto scale = *rc::gen::inRange<std::uint64_t>(0, 50);
      for (PlanCell& c : curve) {
        c.footprint.accounts.push_back(account(name, Bytes{*rc::gen::inRange<std::uint64_t>(0, 99) << scale}));
      }
    }
    const std::vector<ChartSeries> series = chart_series(curve);
    RC_ASSERT(series.size() <= 8u);
    for (std::size_t p = 0; p < points; ++p) {
      Bytes sum;
      for (const ChartSeries& s : series) sum += s.values[p];
      RC_ASSERT(sum == curve[p].footprint.total());
    }
  }));
}

TEST(ChartSeries, WeightsAreOneAndOthersAreOne) {
  PlanReport report = report_of({4096});
  for (PlanCell& c : report.curve) c.footprint.accounts.push_back(account("tiny", 1_KiB));
  const std::vector<ChartSeries> series = chart_series(report.curve);
  ASSERT_EQ(series.size(), 4u);
  EXPECT_EQ(series[0].name, "weights");
  EXPECT_EQ(series[0].values[0], Bytes{3ull << 29});
  EXPECT_EQ(series[1].name, "kv cache");
  EXPECT_EQ(series[2].name, "workspace");
  EXPECT_TRUE(series[2].estimate);
  EXPECT_EQ(series[3].name, "2 other accounts");
}

struct Point {
  double x = 0, y = 0;
};
std::vector<Point> path_points(const std::string& path) {
  static const std::regex pair("[ML](-?[0-9.]+),(-?[0-9.]+)");
  std::vector<Point> out;
  for (auto at = std::sregex_iterator(path.begin(), path.end(), pair); at != std::sregex_iterator(); ++at) {
    out.push_back({std::stod((*at)[1]), std::stod((*at)[2])});
  }
  return out;
}
std::vector<std::string> matches(const std::string& text, const std::string& pattern) {
  const std::regex expression(pattern);
  std::vector<std::string> out;
  for (auto at = std::sregex_iterator(text.begin(), text.end(), expression); at != std::sregex_iterator(); ++at) {
    out.push_back((*at)[1]);
  }
  return out;
}

TEST(ChartSvg, AreasStackUpToTheTotals) {
  const PlanReport report = report_of({4096});
  const std::string svg = chart_svg(report);
  const std::vector<std::string> areas = matches(svg, "class=\"area[^\"]*\" d=\"([^\"]*)\"");
  const std::size_t n = report.curve.size();
  ASSERT_EQ(areas.size(), chart_series(report.curve).size());
  std::vector<double> heights(n);  // in pixels
  for (const std::string& area : areas) {
    const std::vector<Point> border = path_points(area);
    ASSERT_EQ(border.size(), 2 * n);
    for (std::size_t p = 0; p < n; ++p) {
      EXPECT_EQ(border[p].x, border[2 * n - 1 - p].x);
      heights[p] += border[2 * n - 1 - p].y - border[p].y;
    }
  }
  EXPECT_GT(heights.back(), 200);
  const double highest = static_cast<double>(report.curve.back().footprint.total().count);
  for (std::size_t p = 0; p < n; ++p) {
    const double share = static_cast<double>(report.curve[p].footprint.total().count) / highest;
    EXPECT_NEAR(heights[p], heights.back() * share, 0.5) << p;
  }
  const std::vector<Point> first = path_points(areas[0]);
  for (std::size_t p = 2; p < n; ++p) {
    EXPECT_NEAR(first[p].x - first[p - 1].x, first[1].x - first[0].x, 0.11) << "each doubling is equally wide";
  }
}

TEST(ChartSvg, BudgetIsALineOnTheSameScale) {
  PlanReport report = report_of({4096});
  report.budget.limit = report.curve[4].footprint.total();
  const std::string svg = chart_svg(report);
  const std::vector<std::string> line = matches(svg, "class=\"limit\" x1=\"[0-9.]+\" y1=\"([0-9.]+)\"");
  ASSERT_EQ(line.size(), 1u);
  const std::vector<Point> sum = path_points(matches(svg, "class=\"sum\" d=\"([^\"]*)\"").at(0));
  EXPECT_NEAR(std::stod(line[0]), sum[4].y, 0.11);
  EXPECT_NE(svg.find(">budget " + to_string(report.budget.limit) + "<"), std::string::npos);
  report.budget.limit = Bytes{1ull << 50};
  const std::string far = chart_svg(report);
  EXPECT_EQ(far.find("class=\"limit\""), std::string::npos);
  EXPECT_NE(far.find("budget 1048576.00 GiB: far above"), std::string::npos);
}

TEST(ChartSvg, LabelsStayApartAndInside) {
  for (const PlanReport& report : extreme_reports()) {
    if (report.curve.empty()) continue;
    const std::string svg = chart_svg(report);
    const std::regex text("<text(?: class=\"([a-z ]*)\")? x=\"([0-9.-]+)\" y=\"([0-9.-]+)\"([^>]*)>([^<]*)<");
    struct Box {
      double left, right, base;
      std::string words;
    };
    std::vector<Box> boxes;
    for (auto at = std::sregex_iterator(svg.begin(), svg.end(), text); at != std::sregex_iterator(); ++at) {
      // Digits of the fonts in use are 0.56 to 0.64 em wide; letters less on average.
      const double width = 6.9 * static_cast<double>(display_width((*at)[5].str())), x = std::stod((*at)[2]);
      const bool end = (*at)[4].str().find("\"end\"") != std::string::npos;
      const bool middle = (*at)[4].str().find("\"middle\"") != std::string::npos;
      const double left = end ? x - width : middle ? x - width / 2 : x;
      boxes.push_back({left, left + width, std::stod((*at)[3]), (*at)[5]});
    }
    EXPECT_GE(boxes.size(), 6u);
    for (std::size_t i = 0; i < boxes.size(); ++i) {
      EXPECT_GE(boxes[i].left, 0) << boxes[i].words;
      EXPECT_LE(boxes[i].right, 840) << boxes[i].words;
      EXPECT_GE(boxes[i].base, 11) << boxes[i].words;
      EXPECT_LE(boxes[i].base, 397) << boxes[i].words;
      for (std::size_t j = 0; j < i; ++j) {
        const bool apart = boxes[i].right <= boxes[j].left || boxes[j].right <= boxes[i].left ||
                           std::abs(boxes[i].base - boxes[j].base) >= 13;
        EXPECT_TRUE(apart) << boxes[i].words << " and " << boxes[j].words;
      }
    }
  }
}

TEST(ChartSvg, SaysItsNumbersToThoseWhoPointOrListen) {
  const std::string svg = chart_svg(report_of({4096}));
  EXPECT_NE(svg.find("role=\"img\" aria-label=\"Memory by account over context: Some Model\""), std::string::npos);
  EXPECT_NE(svg.find("<desc>Totals: 1,024 tokens: 1.64 GiB; "), std::string::npos);
  EXPECT_NE(svg.find("<title>kv cache at 4,096 tokens: 320.0 MiB (335,544,320 bytes)</title>"), std::string::npos);
  EXPECT_NE(svg.find("xmlns=\"http://www.w3.org/2000/svg\""), std::string::npos);
  EXPECT_NE(svg.find("prefers-color-scheme:dark"), std::string::npos);
  EXPECT_EQ(chart_svg(PlanReport{}), "");
}

}  // namespace
}  // namespace axon
