// docs/memory-101.md: the questions of "LLM Model Memory Usage 101", answered by shape.

#include "plan/machines.h"
#include "plan/pages_parts.h"
#include "plan/report.h"

namespace axon::pages {
namespace {

constexpr std::uint64_t kFourK = 4096, k128K = 131'072, kMillion = 1'000'000, kTenMillion = 10'000'000;

// The document's sums: 24 layers, 2,880 wide, keys and values of half a byte.
constexpr std::uint64_t kLayers = 24, kHidden = 2880;

struct Mini {
  const MachineProfile& machine;
  Bytes cpu, gpu;  // what a model may take
};

Mini mini() {
  const MachineProfile* machine = find_machine("mac-mini-16gb");
  AXON_CHECK(machine != nullptr && machine->gpu_budget());
  return {*machine, machine->budget(), *machine->gpu_budget()};
}

std::string decimal(Bytes bytes) { return fmt::format("{:.2f}", static_cast<double>(bytes.count) / 1e9); }

// Known models as typed; ours by title: "3b" says little among them.
std::string name_of(const Subject& model) {
  return model.facts().family == "bit_axon" ? model.facts().title : model.facts().target;
}

// Bold when it does not fit at all.
std::string verdict(Bytes bytes) {
  const Mini m = mini();
  if (bytes > m.cpu) return fmt::format("**{}**", size(bytes));
  return bytes > m.gpu ? size(bytes) + " (CPU)" : size(bytes);
}

Bytes bare_weights(std::string_view parameters, std::string_view precision) {
  return weights(plan(*bare_size(parameters), choice(kFourK, precision)));
}
Bytes true_weights(std::string_view model, std::string_view precision) {
  return weights(plan(*known_model(model), choice(kFourK, precision)));
}

void add_intro(Markdown& out) {
  out.heading(1, "Memory 101: how far does a 16 GB machine go?");
  out.paragraph(
      "\"LLM Model Memory Usage 101\" (Jin's daily AI trivia) asks what a Mac mini with 16 GB can run: a 0.6B or a 20B "
      "model, at 4 thousand, 128 thousand or 10 million tokens. This page puts each of its numbers beside what "
      "`bit-axon plan` works out. A test compares this file with what the program prints. To write it again:");
  out.code("bit-axon plan --page memory-101 > docs/memory-101.md");
  out.paragraph(
      "The document's GB are 10^9 bytes. Ours are MiB (2^20), GiB (2^30) and TiB (2^40), or plain bytes. What stands "
      "in "
      "quotes is the document's.");
}

void add_weights(Markdown& out) {
  struct Row {
    std::string_view size, precision, quoted, known;
  };
  const std::vector<Row> quoted = {{"0.6b", "bf16", "about 1.2 GB", "qwen3-0.6b"},
                                   {"20b", "bf16", "around 40 GB", "gpt-oss-20b"},
                                   {"20b", "fp8", "~20 GB", "gpt-oss-20b"},
                                   {"20b", "fp4", "~10 GB", "gpt-oss-20b"}};
  std::vector<std::vector<std::string>> rows = {
      {"size", "precision", "the document", "size x bits, bytes", "a real model", "its bytes", "that is"}};
  for (const Row& row : quoted) {
    const Bytes real = true_weights(row.known, row.precision);
    rows.push_back({std::string(row.size), std::string(row.precision), fmt::format("\"{}\"", row.quoted),
                    grouped(bare_weights(row.size, row.precision).count), std::string(row.known), grouped(real.count),
                    size(real)});
  }
  const Bytes published = true_weights("gpt-oss-20b", "keep");
  rows.push_back({"20b", "as published", "-", "-", "gpt-oss-20b", grouped(published.count), size(published)});
  out.heading(2, "Weights");
  out.table(rows, "llrrlrr");
  out.bullet("A parameter takes 2 bytes in bf16, 1 in fp8 and a half in fp4. The document's sums are exact.");
  out.bullet(fmt::format(
      "The document's 0.6B model is Qwen3-TTS-0.6B, which speaks. `qwen3-0.6b` is the text model of that size: {} "
      "parameters.",
      grouped(known_model("qwen3-0.6b")->facts().parameters)));
  out.bullet(fmt::format(
      "gpt-oss-20b has {} parameters. Its makers publish the experts in mxfp4 (4.25 bits with scales) and the rest in "
      "bf16.",
      grouped(known_model("gpt-oss-20b")->facts().parameters)));
  out.bullet(fmt::format(
      "\"fp4\" without scales is no real format. In q4 (4.5 bits with scale and bias) gpt-oss-20b takes {}.",
      size(true_weights("gpt-oss-20b", "q4"))));
}

void add_machine(Markdown& out) {
  const Mini m = mini();
  out.heading(2, "The machine");
  out.paragraph(fmt::format(
      "\"On a 16 GB Mac mini you realistically have only 12-13 GB to play with.\" The profile `{}` takes the middle: "
      "{} "
      "less {} leave {} ({} x 10^9 bytes) for a run on the CPU. A GPU may hold no more than {} of it at once.",
      m.machine.name, size(m.machine.ram), size(m.machine.reserved()), size(m.cpu), decimal(m.cpu), size(m.gpu)));
  std::vector<std::vector<std::string>> rows = {{"20B weights alone", "bytes", "within 12.5 GiB"}};
  for (const char* precision : {"bf16", "fp8", "fp4"}) {
    const Bytes bytes = bare_weights("20b", precision);
    rows.push_back({precision, grouped(bytes.count), bytes <= m.cpu ? "yes" : "no"});
  }
  out.table(rows, "lrl");
  out.paragraph(
      "So bf16 is \"pure fantasy\", as the document says. Of its FP8 and FP4, which make it \"barely possible\", FP8 "
      "does "
      "not fit either. Only 4 bits do.");
}

void add_formula(Markdown& out) {
  const auto sum = bare_size("20b", kLayers, kHidden);
  const auto real = known_model("gpt-oss-20b");
  struct Row {
    std::uint64_t tokens;
    std::string_view quoted;
  };
  const std::vector<Row> quoted = {{kFourK, "about 270 MB"}, {k128K, "multiple GB"}, {kTenMillion, "near-terabyte"}};
  std::vector<std::vector<std::string>> rows = {{"tokens", "the document", "formula, half a byte", "that is",
                                                 "formula, fp16", "gpt-oss-20b, fp16", "gpt-oss-20b, q4"}};
  const auto kv = [](const Subject& s, std::uint64_t tokens, std::string_view format) {
    return sequence(plan(s, choice(tokens, "q4", format)));
  };
  for (const Row& row : quoted) {
    rows.push_back({grouped(row.tokens), fmt::format("\"{}\"", row.quoted), grouped(kv(*sum, row.tokens, "fp4").count),
                    size(kv(*sum, row.tokens, "fp4")), size(kv(*sum, row.tokens, "fp16")),
                    size(kv(*real, row.tokens, "fp16")), size(kv(*real, row.tokens, "q4"))});
  }
  out.heading(2, "The KV cache");
  out.paragraph(
      "The document's formula is 2 x layers x hidden size x tokens x bytes a value. Its example has 24 layers, a "
      "hidden "
      "size of 2,880 and half a byte:");
  out.code("bit-axon plan 20b --fallback --layers 24 --hidden-size 2880 --kv fp4 --weights fp4 --context 4k");
  out.table(rows, "rrrrrrr");
  out.bullet("The formula gives what the document says: 270 MiB, 8.4 GiB, and 691 x 10^9 bytes: close to a terabyte.");
  const double ratio = static_cast<double>(kv(*sum, kTenMillion, "fp16").count) /
                       static_cast<double>(kv(*real, kTenMillion, "fp16").count);
  out.bullet(fmt::format(
      "But it is a formula for models whose keys and values are as wide as the model. 24 and 2,880 are gpt-oss-20b's, "
      "and that model needs {:.1f} times less at the same precision, at 10 million tokens. It has 8 heads of 64 for "
      "keys and values: 512 values wide, not 2,880. And every "
      "other layer remembers 128 tokens only.",
      ratio));
  out.bullet(
      "That the weights have 4 bits says nothing of the cache. Most programs keep it in fp16, four times the "
      "document's "
      "half byte.");
  out.bullet("So this program uses the formula only when asked (`--fallback`), and says so.");
}

void add_ten_million(Markdown& out) {
  std::vector<std::vector<std::string>> rows = {
      {"keys and values, fp16", "made for", "bytes a token", "4,096", "131,072", "10,000,000"}};
  for (const char* name : {"qwen3-0.6b", "llama-3.1-8b", "llama-3.1-70b", "gpt-oss-20b"}) {
    const auto model = known_model(name);
    const auto kv = [&](std::uint64_t tokens) { return sequence(plan(*model, choice(tokens, "q4"))); };
    rows.push_back({name, grouped(model->facts().context_max), grouped((kv(kMillion + 1) - kv(kMillion)).count),
                    size(kv(kFourK)), size(kv(k128K)), size(kv(kTenMillion))});
  }
  out.heading(3, "\"10M token window on a normal Transformer\"");
  out.table(rows, "lrrrrr");
  out.paragraph(
      "The document's check is sound, and mild: in fp16 even Llama 3.1 8B passes the terabyte, with keys and values of "
      "only 8 of its 32 heads. None of these models was made for such a context; the table says what the memory would "
      "be.");
}

void add_rolling_state(const OurModel& three, const OurModel& six, Markdown& out) {
  const std::vector<std::uint64_t> contexts = {kFourK, 65'536, k128K, kMillion, kTenMillion};
  std::vector<std::vector<std::string>> rows = {
      {"kept of a sequence", "family", "4,096", "65,536", "131,072", "1,000,000", "10,000,000"}};
  const auto add = [&](const Subject& model, std::uint64_t max) {
    std::vector<std::string> row = {name_of(model), model.facts().family};
    for (const std::uint64_t context : contexts) {
      row.push_back(context > max ? "-" : size(sequence(plan(model, choice(context, "q4")))));
    }
    rows.push_back(std::move(row));
  };
  for (const char* name : {"mamba-2.8b", "mamba2-2.7b", "falcon-mamba-7b", "rwkv-4-7b", "rwkv-5-7b", "rwkv-6-world-1b6",
                           "rwkv-6-world-3b", "rwkv-7-0.4b", "rwkv-7-1.5b", "rwkv-7-2.9b", "granite-4.0-h-micro",
                           "granite-4.0-h-tiny", "granite-4.0-h-small", "jamba-v0.1"}) {
    add(*known_model(name), kTenMillion);
  }
  for (const OurModel* model : {&three, &six}) add(*model->subject, model->config.max_seq_len);
  for (const char* name : {"gpt-oss-20b", "llama-3.1-8b"}) add(*known_model(name), kTenMillion);
  out.heading(2, "The rolling state");
  out.paragraph(
      "\"Architectures like Mamba and RWKV keep a rolling state.\" The state is float32 here, keys and values fp16; "
      "other programs may hold the state in 16 bits.");
  out.table(rows, "llrrrrr");
  out.bullet(
      "Mamba and RWKV: the same bytes at 4 thousand and at 10 million tokens. The document says that their memory "
      "grows "
      "\"much more gently\"; it does not grow at all.");
  out.bullet(
      "Hybrids (Granite 4.0 H, Jamba): a few attention layers among recurrent ones. They grow, but slowly, in "
      "proportion to those few layers.");
  out.bullet(
      fmt::format("Bit-Axon (`3b`, `6b`): a state in two thirds of the layers, and attention that looks back {} tokens "
                  "in the rest. "
                  "It stops growing there. Its configs allow {} tokens, so there is nothing to say beyond.",
                  grouped(three.config.swa_window_size), grouped(three.config.max_seq_len)));
  out.bullet("That a state is small does not say how much of ten million tokens a model can tell from it.");
}

void add_verdicts(const OurModel& three, const OurModel& six, Markdown& out) {
  const Mini m = mini();
  std::vector<std::vector<std::string>> rows = {
      {"model", "weights", "4,096", "32,768", "131,072", "10,000,000", "longest that fits", "made for"}};
  const auto add = [&](const Subject& model, std::string_view precision) {
    const std::uint64_t made_for = model.facts().context_max;
    const bool ours = model.facts().family == "bit_axon";
    std::vector<std::string> row = {name_of(model), precision == "keep" ? "as published" : std::string(precision)};
    for (const std::uint64_t context : {kFourK, std::uint64_t{32'768}, k128K, kTenMillion}) {
      row.push_back(ours && context > made_for ? "-" : verdict(total(model, choice(context, precision))));
    }
    const auto longest = longest_context(model, choice(0, precision), m.cpu);
    row.push_back(!longest        ? "none"
                  : made_for == 0 ? "no limit"
                                  : fmt::format("{}{}", grouped(*longest), *longest == made_for ? " (all)" : ""));
    row.push_back(made_for == 0 ? "not said" : grouped(made_for));
    rows.push_back(std::move(row));
  };
  for (const char* name : {"qwen3-0.6b", "llama-3.1-8b", "gpt-oss-20b"}) {
    const auto model = known_model(name);
    for (const char* precision : {"bf16", "fp8", "q4"}) add(*model, precision);
    if (model->facts().stored == "mxfp4") add(*model, "keep");
  }
  for (const char* name : {"falcon-mamba-7b", "rwkv-7-2.9b", "granite-4.0-h-tiny"}) add(*known_model(name), "q4");
  for (const OurModel* model : {&three, &six}) add(*model->subject, "q4");
  out.heading(2, "How far the 16 GB Mac mini goes");
  out.paragraph(fmt::format(
      "Everything that a run takes: weights, keys and values in fp16, states, workspace. **Bold** does not fit {}. "
      "*(CPU)* fits there, but not in the {} that a GPU may hold. Workspaces of models that this program does not run "
      "are estimates, and the program that runs them is not counted. A context beyond what a model was made for is "
      "shown all the same.",
      size(m.cpu), size(m.gpu)));
  out.table(rows, "llrrrrrr");
  out.bullet("0.6B: yes, in any precision, up to all tokens that it was made for.");
  out.bullet("8B: not in bf16. In fp8 or 4 bits, with room for a long context.");
  out.bullet(fmt::format(
      "20B: in 4 bits only. gpt-oss-20b's small cache is what lets a long context in. As its makers publish it, its "
      "weights alone are {}: just too much for the middle of \"12-13 GB\".",
      size(true_weights("gpt-oss-20b", "keep"))));
  out.bullet("10 million tokens: only with a rolling state.");
}

void add_claims(Markdown& out) {
  const auto yes = [&](std::string_view text) { out.bullet(fmt::format("Holds: {}", text)); };
  const auto corrected = [&](std::string_view text) { out.bullet(fmt::format("Holds with a correction: {}", text)); };
  const auto sum = bare_size("20b", kLayers, kHidden);
  const auto kv = [&](std::uint64_t tokens) {
    return account_bytes(plan(*sum, choice(tokens, "fp4", "fp4")), "kv cache").count;
  };
  out.heading(2, "Which of the document's claims hold");
  yes(fmt::format("0.6B in bf16 is \"about 1.2 GB\": {} bytes.", grouped(bare_weights("0.6b", "bf16").count)));
  yes(fmt::format("20B is \"around 40\", \"~20\", \"~10 GB\": {}, {} and {} bytes.",
                  grouped(bare_weights("20b", "bf16").count), grouped(bare_weights("20b", "fp8").count),
                  grouped(bare_weights("20b", "fp4").count)));
  yes(fmt::format("the example's KV cache is \"about 270 MB\": {} bytes, exactly 270 MiB.", grouped(kv(kFourK))));
  yes("128k tokens take \"multiple GB\", and 10M \"near a terabyte\", by its formula.");
  yes("a rolling state escapes.");
  corrected("\"FP8 or FP4 ... barely possible\" on the mini: FP4 only.");
  corrected(fmt::format(
      "128k tokens \"blow up a 16 GB Mac mini\": a 20B model with its formula, yes (fp4 weights and cache: {} of {}). "
      "gpt-oss-20b in 4 bits: {} in q4, {} as published.",
      size(total(*sum, choice(k128K, "fp4", "fp4"))), size(mini().cpu),
      size(total(*known_model("gpt-oss-20b"), choice(k128K, "q4"))),
      size(total(*known_model("gpt-oss-20b"), choice(k128K, "keep")))));
  corrected(
      "the formula is right for a model whose keys and values are as wide as it is, and too much for the others.");
}

}  // namespace

std::string memory_101_page(const OurModel& three, const OurModel& six) {
  Markdown out;
  add_intro(out);
  add_weights(out);
  add_machine(out);
  add_formula(out);
  add_ten_million(out);
  add_rolling_state(three, six, out);
  add_verdicts(three, six, out);
  add_claims(out);
  return out.take();
}

}  // namespace axon::pages
