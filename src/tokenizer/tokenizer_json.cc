#include "tokenizer/tokenizer_json.h"

namespace axon {
namespace {

using Kind = SettingList::Kind;

constexpr std::array<std::string_view, 7> kAddedFields = {"id",     "content", "special",   "single_word",
                                                          "lstrip", "rstrip",  "normalized"};
constexpr unsigned kId = 0, kContent = 1, kSpecial = 2;
// Longer ones would make the search for added tokens slow, and nobody has them.
constexpr std::size_t kMaxAddedContent = 1024;

// A JSON pointer's step (RFC 6901).
std::string escaped(std::string_view name) {
  std::string out;
  for (const char c : name) out += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return out;
}

Error corrupt(std::string_view message) { return {ErrorCode::kCorrupt, std::string(message)}; }

Status once(bool& seen, std::string_view what) {
  if (seen) return make_error(ErrorCode::kCorrupt, "{} is there twice", what);
  seen = true;
  return Ok{};
}

}  // namespace

Status TokenizerJson::complete() const {
  if (!vocab_seen_) return corrupt("/model/vocab is missing");
  if (!merges_seen_) return corrupt("/model/merges is missing");
  return Ok{};
}

// Moves path_ to the value that begins.
void TokenizerJson::enter_value() {
  if (levels_.empty() || !levels_.back().is_array) return;
  Level& level = levels_.back();
  path_.resize(level.path_length);
  path_ += fmt::format("/{}", level.index++);
}

Status TokenizerJson::setting(Kind kind, std::string_view text) {
  enter_value();
  if (levels_.empty() && kind != Kind::kObject) return corrupt("the document is not a JSON object");
  return settings_.add(path_, kind, text);
}

Status TokenizerJson::start_container(Kind kind) {
  AXON_TRY(setting(kind, ""));
  if (levels_.empty()) settings_.ignore("");
  levels_.push_back({kind == Kind::kArray, 0, path_.size()});
  return Ok{};
}

Status TokenizerJson::misplaced(std::string_view what) const {
  switch (zone_) {
    case Zone::kVocab:
      return make_error(ErrorCode::kCorrupt, "the id of {} is {}, not a whole number", quote_briefly(name_), what);
    case Zone::kMerges:
    case Zone::kMergePair: return make_error(ErrorCode::kCorrupt, "merge {} holds {}", merges_, what);
    default:
      return make_error(ErrorCode::kCorrupt, "/added_tokens holds {} at {}", what,
                        zone_ == Zone::kAddedToken ? name_ : "its top level");
  }
}

Status TokenizerJson::scalar(Kind kind, std::string_view text) {
  if (zone_ == Zone::kSettings) return setting(kind, text);
  return misplaced(text);
}

Status TokenizerJson::key(std::string_view name) {
  if (zone_ == Zone::kSettings) {
    path_.resize(levels_.back().path_length);
    path_ += '/';
    path_ += escaped(name);
  } else {
    name_ = name;
  }
  return Ok{};
}

Status TokenizerJson::start_object() {
  if (zone_ == Zone::kAddedTokens) {
    zone_ = Zone::kAddedToken;
    added_.content.clear();
    added_.fields = 0;
    return Ok{};
  }
  if (zone_ != Zone::kSettings) return misplaced("an object");
  if (levels_.size() == 2 && path_ == "/model/vocab") {
    AXON_TRY(once(vocab_seen_, path_));
    merges_first_ = merges_seen_;
    zone_ = Zone::kVocab;
    return Ok{};
  }
  return start_container(Kind::kObject);
}

Status TokenizerJson::end_object() {
  if (zone_ == Zone::kAddedToken) return end_added_token();
  if (zone_ == Zone::kVocab) {
    zone_ = Zone::kSettings;
  } else {
    levels_.pop_back();
  }
  return Ok{};
}

Status TokenizerJson::start_array() {
  if (zone_ == Zone::kMerges) {
    zone_ = Zone::kMergePair;
    pair_size_ = 0;
    return Ok{};
  }
  if (zone_ != Zone::kSettings) return misplaced("an array");
  if (levels_.size() == 2 && path_ == "/model/merges") {
    AXON_TRY(once(merges_seen_, path_));
    zone_ = Zone::kMerges;
    return Ok{};
  }
  if (levels_.size() == 1 && path_ == "/added_tokens") {
    AXON_TRY(once(added_seen_, path_));
    zone_ = Zone::kAddedTokens;
    return Ok{};
  }
  return start_container(Kind::kArray);
}

Status TokenizerJson::end_array() {
  if (zone_ == Zone::kMergePair) {
    if (pair_size_ != 2) return make_error(ErrorCode::kCorrupt, "merge {} has {} parts, not 2", merges_, pair_size_);
    zone_ = Zone::kMerges;
    ++merges_;
    return sink_.merge(pair_[0], pair_[1]);
  }
  if (zone_ == Zone::kSettings) {
    levels_.pop_back();
  } else {
    zone_ = Zone::kSettings;
  }
  return Ok{};
}

Status TokenizerJson::string(std::string_view text) {
  switch (zone_) {
    case Zone::kSettings: return setting(Kind::kString, text);
    case Zone::kMerges: return merge_line(text);
    case Zone::kMergePair:
      if (text.empty()) return make_error(ErrorCode::kCorrupt, "merge {} has an empty part", merges_);
      if (pair_size_ == 2) return make_error(ErrorCode::kCorrupt, "merge {} has more than 2 parts", merges_);
      pair_[pair_size_++] = text;
      return Ok{};
    case Zone::kAddedToken:
      if (name_ != kAddedFields[kContent]) break;
      added_.content = text;
      return added_field();
    default: break;
  }
  return misplaced(quote_briefly(text));
}

Status TokenizerJson::merge_line(std::string_view line) {
  const std::size_t space = line.find(' ');
  const bool two = space != std::string_view::npos && line.find(' ', space + 1) == std::string_view::npos;
  if (!two || space == 0 || space + 1 == line.size()) {
    return make_error(ErrorCode::kCorrupt, "merge {} is {}, not two tokens with a space between", merges_,
                      quote_briefly(line));
  }
  ++merges_;
  return sink_.merge(line.substr(0, space), line.substr(space + 1));
}

Result<std::uint32_t> TokenizerJson::checked_id(std::uint64_t number, std::string_view whose) const {
  if (number >= kMaxTokenizerFile) {
    return make_error(ErrorCode::kCorrupt, "the id of {} is out of range: {}", quote_briefly(whose), number);
  }
  return static_cast<std::uint32_t>(number);
}

Status TokenizerJson::unsigned_integer(std::uint64_t number) {
  if (zone_ == Zone::kVocab) {
    if (name_.empty()) return make_error(ErrorCode::kCorrupt, "the token with id {} is empty", number);
    return sink_.vocab_entry(name_, AXON_TRY(checked_id(number, name_)));
  }
  if (zone_ == Zone::kAddedToken && name_ == kAddedFields[kId]) {
    added_.id = AXON_TRY(checked_id(number, "an added token"));
    return added_field();
  }
  return scalar(Kind::kNumber, fmt::format("{}", number));
}

Status TokenizerJson::negative_integer(std::int64_t number) { return scalar(Kind::kNumber, fmt::format("{}", number)); }
Status TokenizerJson::real(double number) { return scalar(Kind::kNumber, fmt::format("{}", number)); }
Status TokenizerJson::null() { return scalar(Kind::kNull, "null"); }
Status TokenizerJson::boolean(bool value) {
  if (zone_ == Zone::kAddedToken) return added_flag(value);
  return scalar(Kind::kBool, value ? "true" : "false");
}

Status TokenizerJson::added_flag(bool value) {
  if (name_ == kAddedFields[kSpecial]) {
    added_.special = value;
  } else if (name_ == kAddedFields[kId] || name_ == kAddedFields[kContent]) {
    return misplaced(value ? "true" : "false");
  } else if (value) {
    return make_error(ErrorCode::kUnsupported, "added token {}: {} = true is not supported",
                      quote_briefly(added_.content), quote_briefly(name_));
  }
  return added_field();
}

// Notes that the field name_ has come.
Status TokenizerJson::added_field() {
  for (unsigned i = 0; i < kAddedFields.size(); ++i) {
    if (name_ != kAddedFields[i]) continue;
    if ((added_.fields >> i & 1u) != 0) return make_error(ErrorCode::kCorrupt, "an added token has {} twice", name_);
    added_.fields |= 1u << i;
    return Ok{};
  }
  return make_error(ErrorCode::kUnsupported, "an added token has the unknown field {}", quote_briefly(name_));
}

Status TokenizerJson::end_added_token() {
  zone_ = Zone::kAddedTokens;
  for (unsigned i = 0; i < kAddedFields.size(); ++i) {
    if ((added_.fields >> i & 1u) == 0) {
      return make_error(ErrorCode::kCorrupt, "added token {} has no {}", quote_briefly(added_.content),
                        kAddedFields[i]);
    }
  }
  if (added_.content.empty()) return make_error(ErrorCode::kCorrupt, "added token {} is empty", added_.id);
  if (added_.content.size() > kMaxAddedContent) {
    return make_error(ErrorCode::kUnsupported, "added token {} is longer than {} bytes", added_.id, kMaxAddedContent);
  }
  return sink_.added_token(added_.content, added_.id, added_.special);
}

}  // namespace axon
