#pragma once
// Makes small tokenizer.json files for tests: the 256 byte tokens, some merges, and any part replaced.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "io/json.h"
#include "tokenizer/byte_level.h"

namespace axon::testing {

inline std::string spelled(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) out += byte_level::spelling(static_cast<unsigned char>(c));
  return out;
}

inline constexpr std::string_view kQwenPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct TokenizerFile {
  // Parts of the document, as JSON.
  std::string normalizer = "null";
  std::string pre_tokenizer;  // empty: as Qwen
  std::string post_processor = "null";
  std::string decoder = R"({"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true})";
  std::string model_fields = R"("type":"BPE","dropout":null,"unk_token":null,"ignore_merges":false)";
  std::string more;  // more top-level fields, each with a comma at its end
  // Byte tokens have their byte as id; merge i joins to id 256 + i. Added tokens follow.
  std::vector<std::pair<std::string, std::string>> merges;  // as bytes
  std::vector<std::string> added;
  bool merges_first = false;
  bool merges_as_lines = false;

  std::size_t first_added() const { return 256 + merges.size(); }
  static std::string split(std::string_view pattern) {
    return fmt::format(R"({{"type":"Split","pattern":{{"Regex":{}}},"behavior":"Isolated","invert":false}})",
                       json_quote(pattern));
  }
  static std::string byte_level(bool use_regex) {
    return fmt::format(R"({{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":{}}})",
                       use_regex);
  }
  static std::string sequence(std::string_view steps) {
    return fmt::format(R"({{"type":"Sequence","pretokenizers":[{}]}})", steps);
  }
  static std::string added_token(std::string_view content, std::size_t id, std::string_view flags) {
    return fmt::format(R"({{"id":{},"content":{},{}}})", id, json_quote(content), flags);
  }
  static constexpr std::string_view kSpecial =
      R"("single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true)";

  std::string vocab_json() const {
    std::string out;
    const auto entry = [&out](const std::string& bytes, std::size_t id) {
      out += fmt::format("{}{}:{}", out.empty() ? "" : ",", json_quote(spelled(bytes)), id);
    };
    for (std::size_t byte = 0; byte < 256; ++byte) entry(std::string(1, static_cast<char>(byte)), byte);
    for (std::size_t i = 0; i < merges.size(); ++i) entry(merges[i].first + merges[i].second, 256 + i);
    return fmt::format("{{{}}}", out);
  }
  std::string merges_json() const {
    std::string out;
    for (const auto& [left, right] : merges) {
      out += out.empty() ? "" : ",";
      out += merges_as_lines ? json_quote(fmt::format("{} {}", spelled(left), spelled(right)))
                             : fmt::format("[{},{}]", json_quote(spelled(left)), json_quote(spelled(right)));
    }
    return fmt::format("[{}]", out);
  }
  std::string added_json() const {
    std::string out;
    for (std::size_t i = 0; i < added.size(); ++i) {
      out += i == 0 ? "" : ",";
      out += added_token(added[i], first_added() + i, kSpecial);
    }
    return fmt::format("[{}]", out);
  }
  std::string json() const {
    const std::string vocab = fmt::format(R"("vocab":{})", vocab_json());
    const std::string merge = fmt::format(R"("merges":{})", merges_json());
    const std::string steps = fmt::format("{},{}", split(kQwenPattern), byte_level(false));
    return fmt::format(
        R"({{"version":"1.0","truncation":null,"padding":null,{}"added_tokens":{},"normalizer":{},"pre_tokenizer":{},)"
        R"("post_processor":{},"decoder":{},"model":{{{},{},{}}}}})",
        more, added_json(), normalizer, pre_tokenizer.empty() ? sequence(steps) : pre_tokenizer, post_processor,
        decoder, model_fields, merges_first ? merge : vocab, merges_first ? vocab : merge);
  }
};

}  // namespace axon::testing
