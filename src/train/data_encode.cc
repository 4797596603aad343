#include "train/data_encode.h"

#include <algorithm>

namespace axon::train {
namespace {

constexpr std::string_view kAssistant = "assistant";

bool has_target(const TokenSequence& sequence) {
  return sequence.ids.size() > 1 &&
         std::find(sequence.trained.begin() + 1, sequence.trained.end(), 1) != sequence.trained.end();
}

// Writes one sequence piece by piece.
class Writer {
 public:
  Writer(const Tokenizer& tokenizer, TokenSequence& out) : tokenizer_(tokenizer), out_(out) {
    out_.ids.clear();
    out_.trained.clear();
  }
  Status text(std::string_view text, AddedTokens added, bool trained) {
    AXON_TRY(tokenizer_.encode(text, out_.ids, added));
    cover(trained);
    return Ok{};
  }
  void token(TokenId id, bool trained) {
    out_.ids.push_back(id);
    cover(trained);
  }
  // What ends a document, unless it stands there already.
  Status end(bool trained) {
    const auto eos = tokenizer_.eos_id();
    if (!eos) return make_error(ErrorCode::kUnsupported, "the tokenizer has neither <|im_end|> nor </s> to end a text");
    if (out_.ids.empty() || out_.ids.back() != *eos) token(*eos, trained);
    return Ok{};
  }
  // As encode_chat() with kPlainText, but that the header of an answer is encoded apart from its content: so it stands
  // before the answer when one is generated, and no token is half prompt, half answer.
  Status message(const Message& message, bool all, bool answers) {
    const auto start = tokenizer_.find_special("<|im_start|>");
    const auto end = tokenizer_.find_special("<|im_end|>");
    if (!start || !end) {
      return make_error(ErrorCode::kUnsupported, "the tokenizer has no added token {}: messages cannot be kept apart",
                        start ? "<|im_end|>" : "<|im_start|>");
    }
    const bool answer = message.role == kAssistant;
    const bool learned = all || (answer && answers);
    token(*start, all);
    if (answer) {
      AXON_TRY(text("assistant\n", AddedTokens::kPlainText, all));
      AXON_TRY(text(message.content, AddedTokens::kPlainText, learned));
    } else {
      AXON_TRY(text(message.role + "\n" + message.content, AddedTokens::kPlainText, all));
    }
    token(*end, learned);
    return text("\n", AddedTokens::kPlainText, all);
  }

 private:
  void cover(bool trained) { out_.trained.resize(out_.ids.size(), trained ? 1 : 0); }
  const Tokenizer& tokenizer_;
  TokenSequence& out_;
};

// The Python original: one string is encoded, then the end token is put behind it, since the template ends in "\n".
Status compat_chat(const Tokenizer& tokenizer, std::span<const Message> messages, TokenSequence& out) {
  out.ids.clear();
  AXON_TRY(encode_chat(tokenizer, messages, /*add_generation_prompt=*/false, out.ids));
  const TokenId eos = tokenizer.eos_id().value_or(1);
  if (out.ids.empty() || out.ids.back() != eos) out.ids.push_back(eos);
  out.trained.assign(out.ids.size(), 0);
  return Ok{};
}

Result<std::size_t> compat_length(const Tokenizer& tokenizer, std::span<const Message> messages) {
  std::vector<TokenId> ids;
  AXON_TRY(encode_chat(tokenizer, messages, /*add_generation_prompt=*/false, ids));
  return ids.size();
}

// The span of each message is what growing prefixes of the chat add to its length.
Status compat_supervised(const Tokenizer& tokenizer, std::span<const Message> messages, bool mask_prompt,
                         TokenSequence& out) {
  AXON_TRY(compat_chat(tokenizer, messages, out));
  if (!mask_prompt) return std::fill(out.trained.begin(), out.trained.end(), std::uint8_t{1}), Ok{};
  std::size_t begin = 0;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const std::size_t end = AXON_TRY(compat_length(tokenizer, messages.first(i + 1)));
    const bool answer = messages[i].role == kAssistant;
    for (std::size_t t = begin; t < std::min(end, out.ids.size()); ++t) out.trained[t] = answer ? 1 : 0;
    begin = end;
  }
  if (messages.back().role == kAssistant) out.trained.back() = 1;
  return Ok{};
}

std::vector<Message> joined(std::span<const Message> a, std::span<const Message> b) {
  std::vector<Message> out(a.begin(), a.end());
  out.insert(out.end(), b.begin(), b.end());
  return out;
}

Status compat_side(const Tokenizer& tokenizer, std::span<const Message> prompt, std::span<const Message> answer,
                   TokenSequence& out) {
  AXON_TRY(compat_chat(tokenizer, joined(prompt, answer), out));
  const std::size_t prompt_length = AXON_TRY(compat_length(tokenizer, prompt));
  for (std::size_t t = prompt_length; t < out.ids.size(); ++t) out.trained[t] = 1;
  return Ok{};
}

// Some datasets repeat the prompt at the start of both answers.
std::span<const Message> without_prompt(std::span<const Message> prompt, std::span<const Message> answer) {
  if (answer.size() <= prompt.size()) return answer;
  const bool repeats = std::equal(prompt.begin(), prompt.end(), answer.begin(), [](const Message& a, const Message& b) {
    return a.role == b.role && a.content == b.content;
  });
  return repeats ? answer.subspan(prompt.size()) : answer;
}

class Encoder {
 public:
  Encoder(const Tokenizer& tokenizer, const EncodeOptions& options, Example& out)
      : tokenizer_(tokenizer), options_(options), out_(out) {}

  Status operator()(const Chat& chat) {
    if (options_.compat) {
      return compat_supervised(tokenizer_, chat.messages, options_.mask_prompt, out_.sequences[0]);
    }
    Writer writer(tokenizer_, out_.sequences[0]);
    for (const Message& message : chat.messages) AXON_TRY(writer.message(message, !options_.mask_prompt, true));
    return Ok{};
  }
  Status operator()(const Completion& pair) {
    if (options_.compat) return unknown_to_the_original("\"prompt\" and \"completion\"");
    if (!options_.raw_completions) return (*this)(Chat{{{"user", pair.prompt}, {"assistant", pair.completion}}});
    Writer writer(tokenizer_, out_.sequences[0]);
    AXON_TRY(writer.text(pair.prompt, AddedTokens::kRecognised, !options_.mask_prompt));
    AXON_TRY(writer.text(pair.completion, AddedTokens::kRecognised, true));
    return writer.end(true);
  }
  Status operator()(const Text& text) {
    if (options_.compat) return unknown_to_the_original("\"text\"");
    Writer writer(tokenizer_, out_.sequences[0]);
    AXON_TRY(writer.text(text.text, AddedTokens::kRecognised, true));
    return writer.end(true);
  }
  Status operator()(const Preference& pair) {
    AXON_TRY(side(pair.prompt, pair.chosen, out_.sequences[0]));
    return side(pair.prompt, pair.rejected, out_.sequences[1]);
  }

 private:
  Status side(std::span<const Message> prompt, std::span<const Message> answer, TokenSequence& out) {
    if (options_.compat) return compat_side(tokenizer_, prompt, answer, out);
    Writer writer(tokenizer_, out);
    for (const Message& message : prompt) AXON_TRY(writer.message(message, false, false));
    for (const Message& message : without_prompt(prompt, answer)) AXON_TRY(writer.message(message, false, true));
    return Ok{};
  }
  static Status unknown_to_the_original(std::string_view keys) {
    return make_error(ErrorCode::kUnsupported, "lines of {} cannot be encoded as the Python original does: it has none",
                      keys);
  }
  const Tokenizer& tokenizer_;
  const EncodeOptions& options_;
  Example& out_;
};

}  // namespace

Result<Encoded> encode_record(const Tokenizer& tokenizer, const Record& record, const EncodeOptions& options,
                              Example& out) {
  AXON_CHECK(options.max_seq_len >= 2);
  for (TokenSequence& sequence : out.sequences) {
    sequence.ids.clear();
    sequence.trained.clear();
  }
  AXON_TRY(std::visit(Encoder(tokenizer, options, out), record));
  Encoded done{.has_targets = true, .had_targets = true};
  const std::size_t count = std::holds_alternative<Preference>(record) ? 2 : 1;
  for (TokenSequence& sequence : std::span(out.sequences).first(count)) {
    done.longest = std::max(done.longest, sequence.ids.size());
    done.had_targets = done.had_targets && has_target(sequence);
    if (sequence.ids.size() > options.max_seq_len) {
      done.truncated = true;
      sequence.ids.resize(options.max_seq_len);
      sequence.trained.resize(options.max_seq_len);
    }
    done.has_targets = done.has_targets && has_target(sequence);
  }
  return done;
}

}  // namespace axon::train
