#include "tokenizer/settings.h"

#include <algorithm>
#include <utility>

#include "io/json.h"
#include "tokenizer/pattern.h"

namespace axon {
namespace {

using Kind = SettingList::Kind;

constexpr std::size_t kMaxEntries = 1024;
constexpr std::size_t kMaxCharacters = 64 << 10;
constexpr std::size_t kMaxSplits = 8;
// huggingface/tokenizers, pre_tokenizers/byte_level.rs: what use_regex means.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

bool is_below(std::string_view path, std::string_view root) {
  return path.size() > root.size() && path.starts_with(root) && path[root.size()] == '/';
}

std::string child(std::string_view path, std::string_view name) { return fmt::format("{}/{}", path, name); }
std::string child(std::string_view path, std::size_t index) { return fmt::format("{}/{}", path, index); }

Error no_such_type(std::string_view path, std::string_view type) {
  return make_error(ErrorCode::kUnsupported, "{}/type = {} is not supported", path, quote_briefly(type));
}

// The readers below take one component each, and themselves for the parts of a Sequence.
using Reader = Status (*)(SettingList&, const std::string& path, TokenizerSettings&);

Status read_sequence(SettingList& list, const std::string& path, Reader read, TokenizerSettings& settings) {
  AXON_TRY(list.take_container(path, Kind::kArray));
  for (std::size_t i = 0; list.has(child(path, i)); ++i) AXON_TRY(read(list, child(path, i), settings));
  return Ok{};
}

Status read_normalizer(SettingList& list, const std::string& path, TokenizerSettings& settings) {
  AXON_TRY(list.take_container(path, Kind::kObject));
  const std::string type = AXON_TRY(list.take_string(child(path, "type")));
  if (type == "Sequence") return read_sequence(list, child(path, "normalizers"), read_normalizer, settings);
  if (type != "NFC") return no_such_type(path, type);
  settings.nfc = true;
  return Ok{};
}

Status add_split(std::string_view path, std::string pattern, TokenizerSettings& settings) {
  if (settings.split_patterns.size() == kMaxSplits) {
    return make_error(ErrorCode::kUnsupported, "{}: more than {} splits", path, kMaxSplits);
  }
  settings.split_patterns.push_back(std::move(pattern));
  return Ok{};
}

Status read_split(SettingList& list, const std::string& path, TokenizerSettings& settings) {
  const std::string pattern = child(path, "pattern");
  AXON_TRY(list.take_container(pattern, Kind::kObject));
  const bool literal = list.has(child(pattern, "String"));
  const std::string name = child(pattern, literal ? "String" : "Regex");
  const std::string text = AXON_TRY(list.take_string(name));
  Result<std::string> translated = literal ? literal_pattern(text) : translate_pattern(text);
  if (!translated.ok()) {
    return make_error(translated.error().code, "{} = {}: {}", name, quote_briefly(text), translated.error().message);
  }
  const std::string behavior = AXON_TRY(list.take_string(child(path, "behavior")));
  if (behavior != "Isolated") {
    return make_error(ErrorCode::kUnsupported, "{}/behavior = {} is not supported", path, quote_briefly(behavior));
  }
  if (AXON_TRY(list.take_bool(child(path, "invert")))) {
    return make_error(ErrorCode::kUnsupported, "{}/invert = true is not supported", path);
  }
  return add_split(path, std::move(translated).value(), settings);
}

// Offsets are not kept, so trim_offsets says nothing here.
Status read_byte_level(SettingList& list, const std::string& path, TokenizerSettings& settings) {
  if (AXON_TRY(list.take_bool(child(path, "add_prefix_space")))) {
    return make_error(ErrorCode::kUnsupported, "{}/add_prefix_space = true is not supported", path);
  }
  AXON_TRY(list.take_bool(child(path, "trim_offsets")));
  const std::string use_regex = child(path, "use_regex");
  if (list.has(use_regex) && !AXON_TRY(list.take_bool(use_regex))) return Ok{};
  return add_split(path, AXON_TRY(translate_pattern(kGpt2Pattern)), settings);
}

// The parts of a pre-tokenizer, in order. ByteLevel has to be the last: a split after it would see spellings.
struct Parts {
  bool byte_level = false;
};

Status read_pre_tokenizer(SettingList& list, const std::string& path, Parts& parts, TokenizerSettings& settings) {
  AXON_TRY(list.take_container(path, Kind::kObject));
  const std::string type = AXON_TRY(list.take_string(child(path, "type")));
  if (type == "Sequence") {
    const std::string children = child(path, "pretokenizers");
    AXON_TRY(list.take_container(children, Kind::kArray));
    for (std::size_t i = 0; list.has(child(children, i)); ++i) {
      AXON_TRY(read_pre_tokenizer(list, child(children, i), parts, settings));
    }
    return Ok{};
  }
  if (type != "Split" && type != "ByteLevel") return no_such_type(path, type);
  if (parts.byte_level) return make_error(ErrorCode::kUnsupported, "{}: a {} after ByteLevel", path, type);
  parts.byte_level = type == "ByteLevel";
  return parts.byte_level ? read_byte_level(list, path, settings) : read_split(list, path, settings);
}

Status read_post_processor(SettingList& list, const std::string& path, TokenizerSettings& settings) {
  AXON_TRY(list.take_container(path, Kind::kObject));
  const std::string type = AXON_TRY(list.take_string(child(path, "type")));
  if (type == "Sequence") return read_sequence(list, child(path, "processors"), read_post_processor, settings);
  if (type == "ByteLevel") {  // offsets only
    for (const char* name : {"add_prefix_space", "trim_offsets", "use_regex"}) list.ignore(child(path, name));
    return Ok{};
  }
  if (type != "TemplateProcessing") return no_such_type(path, type);
  const std::string single = child(path, "single");
  const bool adds_nothing = list.has(child(single, "0/Sequence")) && !list.has(child(single, 1));
  if (!adds_nothing) {
    return make_error(ErrorCode::kUnsupported, "{} adds tokens to the text, which is not supported", single);
  }
  for (const char* name : {"single", "pair", "special_tokens"}) list.ignore(child(path, name));
  return Ok{};
}

Status read_decoder(SettingList& list, const std::string& path) {
  AXON_TRY(list.take_container(path, Kind::kObject));
  const std::string type = AXON_TRY(list.take_string(child(path, "type")));
  if (type != "ByteLevel") return no_such_type(path, type);
  for (const char* name : {"add_prefix_space", "trim_offsets", "use_regex"}) list.ignore(child(path, name));
  return Ok{};
}

Status read_model(SettingList& list, TokenizerSettings& settings) {
  AXON_TRY(list.take_container("/model", Kind::kObject));
  const std::string type = AXON_TRY(list.take_string("/model/type"));
  if (type != "BPE") return no_such_type("/model", type);
  AXON_TRY(list.take_if("/model/dropout", Kind::kNull, ""));
  AXON_TRY(list.take_if("/model/unk_token", Kind::kNull, ""));
  AXON_TRY(list.take_if("/model/continuing_subword_prefix", Kind::kString, ""));
  AXON_TRY(list.take_if("/model/end_of_word_suffix", Kind::kString, ""));
  AXON_TRY(list.take_if("/model/byte_fallback", Kind::kBool, "false"));
  list.ignore("/model/fuse_unk");  // without an unknown token nothing is fused
  if (list.has("/model/ignore_merges")) settings.ignore_merges = AXON_TRY(list.take_bool("/model/ignore_merges"));
  return Ok{};
}

}  // namespace

std::string quote_briefly(std::string_view text) {
  constexpr std::size_t kLongest = 60;
  if (text.size() <= kLongest) return json_quote(text);
  std::size_t cut = kLongest;
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0u) == 0x80) --cut;
  return json_quote(text.substr(0, cut)) + "...";
}

Status SettingList::add(std::string_view path, Kind kind, std::string_view text) {
  if (has(path)) return make_error(ErrorCode::kCorrupt, "{} is there twice", path);
  characters_ += path.size() + text.size();
  if (entries_.size() == kMaxEntries || characters_ > kMaxCharacters) {
    return make_error(ErrorCode::kUnsupported, "{}: too many settings for a byte-level BPE tokenizer", path);
  }
  entries_.push_back({std::string(path), kind, std::string(text), false});
  return Ok{};
}

const SettingList::Entry* SettingList::find(std::string_view path) const {
  const auto at = std::find_if(entries_.begin(), entries_.end(), [path](const Entry& e) { return e.path == path; });
  return at == entries_.end() ? nullptr : &*at;
}
SettingList::Entry* SettingList::find(std::string_view path) {
  return const_cast<Entry*>(std::as_const(*this).find(path));
}

bool SettingList::has(std::string_view path) const { return find(path) != nullptr; }

bool SettingList::has_value(std::string_view path) const {
  const Entry* entry = find(path);
  return entry != nullptr && entry->kind != Kind::kNull;
}

Result<std::string> SettingList::take_string(std::string_view path) {
  Entry* entry = find(path);
  if (entry == nullptr) return make_error(ErrorCode::kCorrupt, "{} is missing", path);
  if (entry->kind != Kind::kString) return unsupported(*entry);
  entry->taken = true;
  return entry->text;
}

Result<bool> SettingList::take_bool(std::string_view path) {
  Entry* entry = find(path);
  if (entry == nullptr) return make_error(ErrorCode::kCorrupt, "{} is missing", path);
  if (entry->kind != Kind::kBool) return unsupported(*entry);
  entry->taken = true;
  return entry->text == "true";
}

Status SettingList::take_if(std::string_view path, Kind kind, std::string_view text) {
  Entry* entry = find(path);
  if (entry == nullptr) return Ok{};
  if (entry->kind != Kind::kNull && (entry->kind != kind || entry->text != text)) return unsupported(*entry);
  entry->taken = true;
  return Ok{};
}

Status SettingList::take_container(std::string_view path, Kind kind) {
  Entry* entry = find(path);
  if (entry == nullptr) return make_error(ErrorCode::kCorrupt, "{} is missing", path);
  if (entry->kind != kind) return unsupported(*entry);
  entry->taken = true;
  return Ok{};
}

void SettingList::ignore(std::string_view path) {
  for (Entry& entry : entries_) {
    if (entry.path == path || is_below(entry.path, path)) entry.taken = true;
  }
}

Status SettingList::all_taken() const {
  for (const Entry& entry : entries_) {
    if (!entry.taken) return unsupported(entry);
  }
  return Ok{};
}

Error SettingList::unsupported(const Entry& entry) {
  const std::string value = entry.kind == Kind::kString   ? quote_briefly(entry.text)
                            : entry.kind == Kind::kObject ? "{...}"
                            : entry.kind == Kind::kArray  ? "[...]"
                                                          : entry.text;
  return make_error(ErrorCode::kUnsupported, "{} = {} is not supported", entry.path, value);
}

Result<TokenizerSettings> interpret_settings(SettingList& list) {
  TokenizerSettings settings;
  AXON_TRY(list.take_if("/version", Kind::kString, "1.0"));
  AXON_TRY(list.take_if("/truncation", Kind::kNull, ""));
  AXON_TRY(list.take_if("/padding", Kind::kNull, ""));
  AXON_TRY(read_model(list, settings));
  if (list.has_value("/normalizer")) AXON_TRY(read_normalizer(list, "/normalizer", settings));
  Parts parts;
  if (list.has_value("/pre_tokenizer")) AXON_TRY(read_pre_tokenizer(list, "/pre_tokenizer", parts, settings));
  if (!parts.byte_level) return make_error(ErrorCode::kUnsupported, "/pre_tokenizer has no ByteLevel");
  if (list.has_value("/post_processor")) AXON_TRY(read_post_processor(list, "/post_processor", settings));
  if (!list.has_value("/decoder")) return make_error(ErrorCode::kUnsupported, "/decoder = null is not supported");
  AXON_TRY(read_decoder(list, "/decoder"));
  for (const char* path : {"/normalizer", "/post_processor"}) {
    if (!list.has_value(path)) list.ignore(path);
  }
  AXON_TRY(list.all_taken());
  return settings;
}

}  // namespace axon
