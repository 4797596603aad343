// docs/models.md: the known models, ours beside what their makers say.

#include "architectures/architecture.h"
#include "architectures/known_models.h"
#include "plan/pages_parts.h"
#include "plan/report.h"

namespace axon::pages {
namespace {

std::string signed_percent(double ours, double published) {
  const std::string text = fmt::format("{:+.2f} %", 100 * (ours - published) / published);
  return text == "+0.00 %" || text == "-0.00 %" ? "0.00 %" : text;
}

// What the makers count as active: some leave the input embedding out.
double counted_active(const KnownModel& known, const SubjectFacts& facts) {
  double active = static_cast<double>(facts.active);
  if (!known.active_without_embedding) return active;
  Result<JsonValue> config = read_json_value(known.config, known.name);
  AXON_CHECK(config.ok());
  Result<Architecture> model = read_architecture(config.value(), known.name);
  AXON_CHECK(model.ok());
  for (const TensorGroup& group : model.value().tensors) {
    if (group.part == Part::kEmbedding && group.matrix) active -= static_cast<double>(group.elements());
  }
  return active;
}

void add_intro(Markdown& out) {
  out.heading(1, "Known models");
  out.paragraph(
      "These can be named instead of pointed at: `bit-axon plan llama-3.1-8b`. The program has the shapes of their "
      "published config.json; every number of ours follows from them. A test compares this file with what the program "
      "prints. To write it again:");
  out.code("bit-axon plan --page models > docs/models.md");
  out.bullet(
      "**Exact:** parameters, bytes of keys and values, bytes of weights in a precision (fp8's few scales aside).");
  out.bullet(
      "**Exact for a program that holds them in float32:** recurrent states and conv tails. Some hold them in 16 "
      "bits.");
  out.bullet(
      "**Not here:** the workspace and the code of the program that runs the model. `bit-axon plan NAME` estimates the "
      "first, marked with ~.");
}

void add_counts(Markdown& out) {
  std::vector<std::vector<std::string>> rows = {
      {"model", "family", "parameters", "published", "difference", "as its makers put it", "source"}};
  std::vector<std::vector<std::string>> active = {
      {"model", "parameters", "active for a token", "counted as its makers do", "published", "difference"}};
  for (const KnownModel& known : known_models()) {
    const auto model = known_model(known.name);
    const SubjectFacts& facts = model->facts();
    const double ours = static_cast<double>(facts.parameters);
    const auto published = static_cast<std::uint64_t>(known.published_parameters);
    rows.push_back({std::string(known.name), facts.family, grouped(facts.parameters), grouped(published),
                    signed_percent(ours, known.published_parameters), std::string(known.published_as),
                    fmt::format("<{}>", known.source)});
    if (facts.active == 0 || facts.active == facts.parameters) continue;
    const double counted = counted_active(known, facts);
    const bool said = known.published_active > 0;
    active.push_back({std::string(known.name), grouped(facts.parameters), grouped(facts.active),
                      grouped(static_cast<std::uint64_t>(counted)),
                      said ? grouped(static_cast<std::uint64_t>(known.published_active)) : "not said",
                      said ? signed_percent(counted, known.published_active) : "-"});
  }
  out.heading(2, "Parameters");
  out.paragraph(
      "A difference is what the makers' rounding leaves: \"7B\" has one digit. Where they publish three digits or "
      "more, "
      "ours is within 0.5 %, which a test asserts.");
  out.table(rows, "llrrrll");
  out.heading(3, "Active parameters");
  out.paragraph(
      "Models with experts, or with an encoder for pictures: all parameters must be in memory, some of them work on a "
      "token of text. Some makers leave the input embedding out of their count. Some round, and some cut: Granite's "
      "\"1B "
      "active\" is one digit.");
  out.table(active, "lrrrrr");
}

void add_caches(Markdown& out) {
  std::vector<std::vector<std::string>> rows = {
      {"model", "made for", "bytes a token", "KV at 4,096", "KV at 32,768", "KV at 131,072", "state, any context"}};
  for (const KnownModel& known : known_models()) {
    const auto model = known_model(known.name);
    const auto kv = [&](std::uint64_t tokens) { return account_bytes(plan(*model, choice(tokens, "q4")), "kv cache"); };
    const auto or_none = [](Bytes bytes) { return bytes == 0_B ? "-" : size(bytes); };
    const Footprint run = plan(*model, choice(4096, "q4"));
    const Bytes state = account_bytes(run, "recurrent state") + account_bytes(run, "conv state");
    constexpr std::uint64_t kFar = std::uint64_t{1} << 24;  // past every window
    const std::uint64_t made_for = model->facts().context_max;
    rows.push_back({std::string(known.name), made_for == 0 ? "not said" : grouped(made_for),
                    grouped((kv(kFar + 1) - kv(kFar)).count), or_none(kv(4096)), or_none(kv(32'768)),
                    or_none(kv(131'072)), or_none(state)});
  }
  out.heading(2, "What they keep of a sequence");
  out.paragraph(
      "Keys and values in fp16. \"Bytes a token\" is the growth at long contexts: layers with a window no longer grow "
      "there. A context beyond what a model was made for is shown all the same. States in float32.");
  out.table(rows, "lrrrrrr");
}

void add_weights(Markdown& out) {
  std::vector<std::vector<std::string>> rows = {{"model", "published in", "as published", "bf16", "q8", "q4"}};
  for (const KnownModel& known : known_models()) {
    const auto model = known_model(known.name);
    const auto in = [&](std::string_view precision) { return size(weights(plan(*model, choice(1, precision)))); };
    const std::string& stored = model->facts().stored;
    rows.push_back({std::string(known.name), stored.empty() ? "not said" : stored, stored.empty() ? "-" : in("keep"),
                    in("bf16"), in("q8"), in("q4")});
  }
  out.heading(2, "Weights");
  out.paragraph(
      "q8 and q4 have a scale and a bias in half precision for each 64 weights: 8.5 and 4.5 bits. Norms, biases and "
      "routers stay in 16 bits.");
  out.table(rows, "llrrrr");
}

}  // namespace

std::string models_page() {
  Markdown out;
  add_intro(out);
  add_counts(out);
  add_caches(out);
  add_weights(out);
  return out.take();
}

}  // namespace axon::pages
