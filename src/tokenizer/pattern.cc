#include "tokenizer/pattern.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace axon {
namespace {

constexpr std::size_t kMaxPattern = 8 << 10;

constexpr std::array<std::string_view, 37> kCategories = {
    "L",  "Ll", "Lm", "Lo", "Lt", "Lu", "M",  "Mc", "Me", "Mn", "N",  "Nd", "Nl", "No", "P",  "Pc", "Pd", "Pe", "Pf",
    "Pi", "Po", "Ps", "S",  "Sc", "Sk", "Sm", "So", "Z",  "Zl", "Zp", "Zs", "C",  "Cc", "Cf", "Cn", "Co", "Cs"};

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_punctuation(char c) { return c > ' ' && c < 0x7F && !is_letter(c) && !is_digit(c); }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  Result<std::string> run() {
    if (in_.size() > kMaxPattern) return unsupported("more than 8 KiB");
    while (at_ < in_.size()) AXON_TRY(item());
    if (!folds_.empty()) return unsupported("a group that does not end");
    return std::move(out_);
  }

 private:
  Error unsupported(std::string_view what) const {
    return make_error(ErrorCode::kUnsupported, "{} at byte {} of the pattern is not supported", what, at_);
  }
  bool looking_at(std::string_view text) const { return in_.substr(at_).starts_with(text); }
  bool folds() const { return !folds_.empty() && folds_.back(); }
  void emit(std::size_t count) {
    out_ += in_.substr(at_, count);
    at_ += count;
  }

  Status item() {
    const char c = in_[at_];
    const char before = previous_;
    previous_ = 0;
    switch (c) {
      case '(': return open();
      case ')': return close();
      case '[': return character_class();
      case '\\': return escape();
      case '{': return repeat();
      case '|':
      case '*':
      case '+':
      case '?': return emit(1), Ok{};
      case '.':
      case '^':
      case '$':
      case ']':
      case '}': return unsupported(in_.substr(at_, 1));
      default: return literal(c, before);
    }
  }

  // Ignoring case, Oniguruma also matches one character for several, as U+FB01 for "fi"; PCRE2 does not.
  Status literal(char c, char before) {
    if (folds()) {
      constexpr std::array<std::string_view, 5> kLigatures = {"ff", "fi", "fl", "ss", "st"};
      const std::array<char, 2> pair = {lower(before), lower(c)};
      if (static_cast<unsigned char>(c) >= 0x80) return unsupported("a character beyond ASCII in (?i:");
      if (std::find(kLigatures.begin(), kLigatures.end(), std::string_view(pair.data(), 2)) != kLigatures.end()) {
        return unsupported("a pair of letters with a ligature in (?i:");
      }
      previous_ = c;
    }
    return emit(1), Ok{};
  }

  Status open() {
    if (folds()) return unsupported("a group in (?i:");
    for (const std::string_view group : {"(?:", "(?i:", "(?=", "(?!"}) {
      if (!looking_at(group)) continue;
      folds_.push_back(group == "(?i:");
      return emit(group.size()), Ok{};
    }
    if (looking_at("(?")) return unsupported("this kind of group");
    folds_.push_back(false);
    out_ += "(?:";  // nothing refers to a capture
    ++at_;
    return Ok{};
  }

  Status close() {
    if (folds_.empty()) return unsupported("a parenthesis that closes nothing");
    folds_.pop_back();
    return emit(1), Ok{};
  }

  // After {n,m} a '+' is possessive in PCRE2 and a second quantifier in Ruby; {,m} is a quantifier in Ruby only.
  Status repeat() {
    std::size_t end = at_ + 1;
    const auto digits = [&] {
      const std::size_t start = end;
      while (end < in_.size() && is_digit(in_[end])) ++end;
      return end > start;
    };
    bool good = digits();
    if (good && end < in_.size() && in_[end] == ',') {
      ++end;
      digits();
    }
    good = good && end < in_.size() && in_[end] == '}';
    if (good && end + 1 < in_.size()) good = std::string_view("+?*{").find(in_[end + 1]) == std::string_view::npos;
    if (!good) return unsupported("this use of {");
    return emit(end + 1 - at_), Ok{};
  }

  Status escape() {
    if (at_ + 1 == in_.size()) return unsupported("a lone backslash");
    const char c = in_[at_ + 1];
    const bool simple = c == 'r' || c == 'n' || c == 't' || c == 'f' || is_punctuation(c);
    if (simple) return emit(2), Ok{};
    if (folds()) return unsupported("a set of characters in (?i:");
    if (c == 'd' || c == 'D') return emit(2), Ok{};
    if (c == 'p' || c == 'P') return property();
    if (c != 's' && c != 'S') return unsupported(in_.substr(at_, 2));
    // PCRE2's own \s has U+180E, which is no white space since Unicode 6.3.
    out_ += c == 's' ? R"(\p{White_Space})" : R"(\P{White_Space})";
    at_ += 2;
    return Ok{};
  }

  Status property() {
    const std::size_t open = at_ + 2;
    const std::size_t close = in_.find('}', open);
    if (open >= in_.size() || in_[open] != '{' || close == std::string_view::npos)
      return unsupported("this use of \\p");
    const std::string_view name = in_.substr(open + 1, close - open - 1);
    const std::string_view category = name.starts_with('^') ? name.substr(1) : name;
    if (std::find(kCategories.begin(), kCategories.end(), category) == kCategories.end()) {
      return unsupported("a property other than the general categories");
    }
    return emit(close + 1 - at_), Ok{};
  }

  // Oniguruma nests classes and intersects them with &&; to PCRE2 these are literals.
  Status character_class() {
    if (folds()) return unsupported("a set of characters in (?i:");
    emit(looking_at("[^") ? 2 : 1);
    if (looking_at("]")) return unsupported("an empty class");
    while (at_ < in_.size() && in_[at_] != ']') {
      if (in_[at_] == '[' || looking_at("&&")) return unsupported("a class in a class");
      if (in_[at_] == '\\') {
        AXON_TRY(escape());
      } else {
        emit(1);
      }
    }
    if (at_ == in_.size()) return unsupported("a class that does not end");
    return emit(1), Ok{};
  }

  std::string_view in_;
  std::size_t at_ = 0;
  std::string out_;
  std::vector<bool> folds_;  // for every open group, whether it ignores case
  char previous_ = 0;        // the literal just before, in a group that ignores case
};

}  // namespace

Result<std::string> translate_pattern(std::string_view pattern) { return Translator(pattern).run(); }

Result<std::string> literal_pattern(std::string_view text) {
  if (text.empty()) return make_error(ErrorCode::kUnsupported, "an empty pattern is not supported");
  if (text.size() > kMaxPattern) return make_error(ErrorCode::kUnsupported, "more than 8 KiB is not supported");
  std::string out;
  for (const char c : text) {
    if (is_punctuation(c)) out += '\\';
    out += c;
  }
  return out;
}

}  // namespace axon
