// Real datasets with the nano model's tokenizer: what is learned is the answers, word for word, and nothing else.

#include <fstream>

#include <nlohmann/json.hpp>

#include "golden.h"
#include "memory/mapped_file.h"
#include "train/data_batches.h"
#include "train/data_set.h"

namespace axon::train {
namespace {

using golden::ok;
using Json = nlohmann::json;

struct NanoTokenizer {
  Ledger ledger{64_MiB};
  MappedFile file = ok(MappedFile::open(AXON_SOURCE_DIR "/models/bit-axon-nano/tokenizer.json"));
  Tokenizer tokenizer = ok(Tokenizer::load(file.text(), ok(Tokenizer::measure(file.text(), "nano")), ledger));
};

std::string data_path(const std::string& name) { return AXON_SHARED_DIR "/data/" + name; }

std::vector<Json> lines_of(const std::string& path) {
  std::vector<Json> out;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) out.push_back(Json::parse(line));
  return out;
}

std::string learned(const Tokenizer& tokenizer, const TokenSequence& sequence) {
  std::string out;
  for (std::size_t t = 0; t < sequence.ids.size(); ++t) {
    if (sequence.trained[t] != 0) out += tokenizer.token_bytes(sequence.ids[t]);
  }
  return out;
}

// Compares every example of a file with `answers`: what each line of JSON says is to be learned, of both sequences.
template <class Answers>
void compare(const std::string& name, const DataOptions& options, DataFormat format, Answers&& answers) {
  NanoTokenizer nano;
  Ledger ledger(64_MiB);
  const std::string path = data_path(name);
  const JsonlExamples set = ok(JsonlExamples::open(path, nano.tokenizer, options, ledger));
  const auto lines = lines_of(path);
  EXPECT_EQ(set.format(), format);
  EXPECT_EQ(set.stats().lines, lines.size());
  ASSERT_EQ(set.size(), lines.size());
  EXPECT_EQ(set.stats().truncated + set.stats().bad, 0u);
  std::uint64_t tokens = 0;
  Example example;
  for (std::size_t i = 0; i < set.size(); ++i) {
    ok(set.read(i, example));
    const std::array<std::string, 2> expected = answers(lines[set.shape(i).line - 1]);
    for (std::size_t s = 0; s < 2; ++s) {
      ASSERT_EQ(learned(nano.tokenizer, example.sequences[s]), expected[s]) << path << ":" << set.shape(i).line;
      tokens += example.sequences[s].ids.size();
    }
  }
  EXPECT_EQ(set.stats().tokens, tokens);
}

constexpr DataOptions kLong{.encode = {.max_seq_len = 100'000}};

TEST(TrainingData, Messages) {
  for (const char* name : {"persona-chat.train.jsonl", "persona-chat.val.jsonl"}) {
    compare(name, kLong, DataFormat::kMessages, [](const Json& line) -> std::array<std::string, 2> {
      std::string out;
      for (const Json& message : line["messages"]) {
        if (message["role"] == "assistant") out += message["content"].get<std::string>() + "<|im_end|>";
      }
      return {out, ""};
    });
  }
}

TEST(TrainingData, Alpaca) {
  compare("instructions.alpaca.jsonl", kLong, DataFormat::kAlpaca, [](const Json& line) -> std::array<std::string, 2> {
    return {line["output"].get<std::string>() + "<|im_end|>", ""};
  });
}

TEST(TrainingData, Preferences) {
  DataOptions options = kLong;
  options.objective = Objective::kPreference;
  compare(
      "preferences.orpo.jsonl", options, DataFormat::kPreference, [](const Json& line) -> std::array<std::string, 2> {
        return {line["chosen"].get<std::string>() + "<|im_end|>", line["rejected"].get<std::string>() + "<|im_end|>"};
      });
}

// A pass in packed rows holds every token and target of the file, in fewer rows than examples.
TEST(TrainingData, PackedRows) {
  NanoTokenizer nano;
  Ledger ledger(64_MiB);
  const DataOptions options{.encode = {.max_seq_len = 2048}};
  const JsonlExamples set =
      ok(JsonlExamples::open(data_path("persona-chat.val.jsonl"), nano.tokenizer, options, ledger));
  Batches batches = ok(Batches::create(set, {.pack = true, .repeat = false}, ledger));
  std::uint64_t rows = 0, tokens = 0, targets = 0;
  while (!batches.finished()) {
    const Batch batch = ok(batches.next());
    rows += batch.rows.size();
    tokens += batch.tokens;
    targets += batch.targets;
  }
  EXPECT_EQ(targets, set.stats().targets);
  EXPECT_EQ(tokens, set.stats().tokens - set.size());
  EXPECT_LT(rows, set.size() / 3);
}

}  // namespace
}  // namespace axon::train
