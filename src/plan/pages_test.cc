#include "plan/pages.h"

#include <fstream>
#include <iterator>

#include <gtest/gtest.h>

#include "model/tensors.h"
#include "plan/pages_memory_budget.h"

namespace axon {
namespace {

using namespace pages;

SubjectOptions options() { return {.default_model = AXON_SOURCE_DIR "/models/bit-axon-nano"}; }

const OurModel& ours(std::string_view name) {
  static const OurModel three = our_model("3b", options()).value(), six = our_model("6b", options()).value();
  return name == "3b" ? three : six;
}

std::string page(std::string_view name) {
  Result<std::string> text = page_text(name, options());
  if (!text.ok()) {
    ADD_FAILURE() << text.error().message;
    return "";
  }
  return std::move(text).value();
}

std::string file(std::string_view name) {
  std::ifstream in(fmt::format("{}/docs/{}.md", AXON_SOURCE_DIR, name), std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

TEST(Pages, AreWhatTheProgramPrints) {
  for (const std::string_view name : page_names()) {
    const std::vector<std::string> now = lines_of(page(name)), stored = lines_of(file(name));
    const std::string how = fmt::format("; to write it again: bit-axon plan --page {} > docs/{}.md", name, name);
    for (std::size_t i = 0; i < std::min(now.size(), stored.size()); ++i) {
      ASSERT_EQ(stored[i], now[i]) << "docs/" << name << ".md line " << i + 1 << how;
    }
    EXPECT_TRUE(page(name) == file(name))
        << "docs/" << name << ".md: " << stored.size() << " lines, not " << now.size() << how;
  }
}

TEST(Pages, ProseIsNarrow) {
  for (const std::string_view name : page_names()) {
    for (const std::string& line : lines_of(page(name))) {
      EXPECT_TRUE(line.starts_with('|') || line.size() <= 120) << name << ": " << line;
    }
  }
}

TEST(Pages, AnUnknownNameListsTheKnown) {
  const auto unknown = page_text("memory", options());
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().code, ErrorCode::kInvalidArgument);
  for (const std::string_view name : page_names()) {
    EXPECT_NE(unknown.error().message.find(name), std::string::npos) << unknown.error().message;
  }
}

// Without the tokenizer, numbers would differ by it.
TEST(Pages, TheShippedTokenizerMustBeThere) {
  const auto missing = page_text("memory-budget", {.default_model = AXON_SOURCE_DIR "/no-such-model"});
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message.find("no-such-model"), std::string::npos);
  EXPECT_TRUE(page_text("models", {.default_model = AXON_SOURCE_DIR "/no-such-model"}).ok());
}

TEST(Pages, TablesAreAligned) {
  Markdown out;
  out.table({{"a", "number"}, {"long name", "1"}}, "lr");
  EXPECT_EQ(out.take(), "| a         | number |\n|-----------|-------:|\n| long name |      1 |\n");
}

TEST(Pages, TextIsWrapped) {
  Markdown out;
  const std::string word(70, 'x');
  out.paragraph(word + " " + word);
  out.bullet(word + " " + word);
  out.bullet("y");
  EXPECT_EQ(out.take(), fmt::format("{0}\n{0}\n\n- {0}\n  {0}\n- y\n", word));
}

// The numbers that the pages stand for, from the arithmetic and not from the text: writing a page again cannot hide a
// wrong one.

Bytes bare(std::string_view size, std::string_view precision) {
  return weights(plan(*bare_size(size), choice(1, precision)));
}

TEST(Memory101, SizesInTheirPrecisions) {
  EXPECT_EQ(bare("0.6b", "bf16"), 1'200'000'000_B);
  EXPECT_EQ(bare("20b", "bf16"), 40'000'000'000_B);
  EXPECT_EQ(bare("20b", "fp8"), 20'000'000'000_B);
  EXPECT_EQ(bare("20b", "fp4"), 10'000'000'000_B);
  EXPECT_EQ(known_model("qwen3-0.6b")->facts().parameters, 596'049'920u);
}

TEST(Memory101, TheFormulaForKeysAndValues) {
  const auto model = bare_size("20b", 24, 2880);
  const auto kv = [&](std::uint64_t tokens) { return sequence(plan(*model, choice(tokens, "fp4", "fp4"))); };
  EXPECT_EQ(kv(4096), 283'115'520_B);
  EXPECT_EQ(kv(4096), 270_MiB);
  EXPECT_EQ(kv(131'072), 9'059'696'640_B);
  EXPECT_EQ(kv(10'000'000), 691'200'000'000_B);
}

TEST(Memory101, TrueShapesNeedLess) {
  const auto kv = [&](std::string_view name, std::uint64_t tokens) {
    return sequence(plan(*known_model(name), choice(tokens, "q4")));
  };
  // 12 layers remember all tokens, 12 the last 128; 8 heads of 64, half precision.
  EXPECT_EQ(kv("gpt-oss-20b", 131'072), Bytes{std::uint64_t{12} * (131'072 + 128) * 2 * 8 * 64 * 2});
  EXPECT_EQ(kv("llama-3.1-8b", 10'000'000), 1'310'720'000'000_B);
  EXPECT_EQ(kv("llama-3.1-70b", 10'000'000), 3'276'800'000'000_B);
}

TEST(Memory101, RollingStatesStayAsTheyAre) {
  for (const char* name : {"mamba-2.8b", "mamba2-2.7b", "falcon-mamba-7b", "rwkv-4-7b", "rwkv-5-7b", "rwkv-6-world-1b6",
                           "rwkv-6-world-3b", "rwkv-7-0.4b", "rwkv-7-1.5b", "rwkv-7-2.9b"}) {
    const auto model = known_model(name);
    const Bytes few = sequence(plan(*model, choice(4096, "q4"))),
                many = sequence(plan(*model, choice(10'000'000, "q4")));
    EXPECT_EQ(few, many) << name;
    EXPECT_GT(few, 1_MiB) << name;
  }
  EXPECT_EQ(sequence(plan(*ours("3b").subject, choice(4096, "q4"))),
            sequence(plan(*ours("3b").subject, choice(65'536, "q4"))));
}

// What the verdicts on the mini rest on.
TEST(Memory101, WhatFitsTheMini) {
  constexpr Bytes kMini = 12'800_MiB;  // 16 GiB less 3.5
  EXPECT_GT(bare("20b", "fp8"), kMini);
  EXPECT_LE(bare("20b", "fp4"), kMini);
  const auto fits = [&](std::string_view name, std::string_view precision, std::uint64_t context) {
    return total(*known_model(name), choice(context, precision)) <= kMini;
  };
  for (const char* precision : {"bf16", "fp8", "q4"}) EXPECT_TRUE(fits("qwen3-0.6b", precision, 40'960)) << precision;
  EXPECT_FALSE(fits("llama-3.1-8b", "bf16", 1));
  EXPECT_TRUE(fits("llama-3.1-8b", "fp8", 32'768));
  EXPECT_TRUE(fits("llama-3.1-8b", "q4", 65'536));
  EXPECT_FALSE(fits("gpt-oss-20b", "fp8", 1));
  EXPECT_FALSE(fits("gpt-oss-20b", "keep", 1));
  EXPECT_TRUE(fits("gpt-oss-20b", "q4", 32'768));
  EXPECT_FALSE(fits("gpt-oss-20b", "q4", 131'072));
  for (const char* name : {"falcon-mamba-7b", "rwkv-7-2.9b"}) EXPECT_TRUE(fits(name, "q4", 10'000'000)) << name;
  for (const char* name : {"qwen3-0.6b", "llama-3.1-8b", "gpt-oss-20b", "granite-4.0-h-tiny"}) {
    EXPECT_FALSE(fits(name, "q4", 10'000'000)) << name;
  }
}

TEST(MemoryBudget, Parameters) {
  EXPECT_EQ(ours("3b").subject->facts().parameters, 3'218'739'200u);
  EXPECT_EQ(ours("6b").subject->facts().parameters, 5'766'778'880u);
  EXPECT_EQ(count_parameters(ours("6b").config).active, 2'746'880'000u);
  for (const char* name : {"3b", "6b"}) {
    std::uint64_t sum = 0;
    for (const TensorSpec& spec : tensor_list(ours(name).config)) sum += spec.optional ? 0 : spec.shape.elements();
    EXPECT_EQ(sum, ours(name).subject->facts().parameters) << name;
  }
}

TEST(MemoryBudget, StatesAndCaches) {
  for (const char* name : {"3b", "6b"}) {
    const OurModel& model = ours(name);
    const Footprint run = plan(*model.subject, choice(65'536, "q4"));
    EXPECT_EQ(account_bytes(run, "ssm state"), Bytes{16 * 7680 * 16 * 4});  // 7.5 MiB
    EXPECT_EQ(account_bytes(run, "conv state"), Bytes{16 * 3 * 7680 * 4});  // 1.41 MiB
    EXPECT_EQ(kv_cache(model, 65'536, "fp16", kBuiltWindow), 320_MiB);
    EXPECT_EQ(kv_cache(model, 65'536, "fp16", kFullWindow), 5'120_MiB);
    EXPECT_EQ(kv_cache(model, 65'536, "fp32", kBuiltWindow), 640_MiB);
    const Bytes turbo = kv_cache(model, 65'536, "tq3", kFullWindow);
    EXPECT_LE(6 * turbo.count, (5'120_MiB).count);
    EXPECT_GE(turbo, 800_MiB);
  }
}

TEST(MemoryBudget, TotalsOf3b) {
  const Subject& model = *ours("3b").subject;
  EXPECT_LE(total(model, choice(65'536, "q4")), 2'150_MiB);
  EXPECT_GE(total(model, choice(65'536, "q4")), 2'050_MiB);
  const double gib = 0x1p30;
  EXPECT_GT(static_cast<double>(total(model, choice(65'536, "q4", "fp16", kFullWindow)).count), 6.6 * gib);
  EXPECT_GT(total(model, choice(65'536, "fp16", "fp16", kFullWindow)), 11_GiB);
}

TEST(MemoryBudget, Training) {
  EXPECT_EQ(account_bytes(trained(*ours("6b").subject, {}), "adapter gradients"), Bytes{4 * 15'089'664});
  EXPECT_GE(account_bytes(trained(*ours("6b").subject, {}), "optimizer state"), Bytes{8 * 15'089'664});
  EXPECT_FALSE(trained(*ours("6b").subject, {}).estimate());
  EXPECT_EQ(full_fine_tuning(*ours("3b").subject).value(), Bytes{12 * std::uint64_t{3'218'739'200}});
}

// What the verdicts at the end of the page rest on.
TEST(MemoryBudget, ClaimsAreAsJudged) {
  const auto fits = [](std::string_view name, std::uint64_t context, std::string_view precision,
                       std::optional<std::uint64_t> window, std::string_view kv = "fp16") {
    return total(*ours(name).subject, choice(context, precision, kv, window)) <= kEightGb;
  };
  // Holds.
  EXPECT_TRUE(fits("3b", 65'536, "q4", kFullWindow, "tq3"));
  EXPECT_TRUE(fits("6b", 65'536, "q4", kFullWindow, "tq3"));
  const Bytes turbo = total(*ours("3b").subject, choice(65'536, "q4", "tq3", kFullWindow));
  EXPECT_GT(kEightGb - turbo, 5'000'000'000_B);
  for (const char* name : {"3b", "6b"}) EXPECT_LE(trained(*ours(name).subject, {}).total(), kEightGb) << name;
  // Q4 alone fits further than 16K.
  EXPECT_TRUE(fits("3b", 65'536, "q4", kFullWindow));
  EXPECT_TRUE(fits("6b", 32'768, "q4", kFullWindow));
  EXPECT_FALSE(fits("6b", 65'536, "q4", kFullWindow));
  EXPECT_TRUE(fits("6b", 65'536, "q4", kBuiltWindow));
  EXPECT_TRUE(fits("6b", 65'536, "q8", kBuiltWindow));
  // FP16 beyond 4K.
  EXPECT_TRUE(fits("3b", 16'384, "fp16", kFullWindow));
  EXPECT_FALSE(fits("3b", 32'768, "fp16", kFullWindow));
  EXPECT_TRUE(fits("3b", 65'536, "fp16", kBuiltWindow));
  EXPECT_FALSE(fits("6b", 1, "fp16", kBuiltWindow));
  // The cache alone.
  EXPECT_LT(kv_cache(ours("6b"), 65'536, "fp16", kFullWindow), kEightGb);
}

}  // namespace
}  // namespace axon
