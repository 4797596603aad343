#pragma once
// The small print of a tokenizer.json: everything but vocabulary, merges and added tokens. What is not understood in
// full is refused by name: a tokenizer that almost fits would give a model wrong ids without a sign of it.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace axon {

// The values of a JSON document as a flat list of JSON pointers (RFC 6901) and what stands there, bounded in size.
class SettingList {
 public:
  enum class Kind { kNull, kBool, kNumber, kString, kObject, kArray };

  // kCorrupt when the path is there already, kUnsupported when the list gets too long.
  Status add(std::string_view path, Kind kind, std::string_view text);

  // Whether something stands there; containers count.
  bool has(std::string_view path) const;
  // Like has(), but something other than null.
  bool has_value(std::string_view path) const;

  // Each takes the value as understood; an absent value or one of another kind is an error that names it.
  Result<std::string> take_string(std::string_view path);
  Result<bool> take_bool(std::string_view path);
  // Takes null, absence, or the value `text`; anything else is kUnsupported.
  Status take_if(std::string_view path, Kind kind, std::string_view text);
  // Takes the container itself, without what is in it.
  Status take_container(std::string_view path, Kind kind);
  // Takes what stands at the path and below it, whatever it is.
  void ignore(std::string_view path);

  // kUnsupported for the first value that nobody took.
  Status all_taken() const;

 private:
  struct Entry {
    std::string path;
    Kind kind;
    std::string text;
    bool taken;
  };
  const Entry* find(std::string_view path) const;
  Entry* find(std::string_view path);
  static Error unsupported(const Entry& entry);

  std::vector<Entry> entries_;
  std::size_t characters_ = 0;
};

// What the small print says, as far as it changes ids or text.
struct TokenizerSettings {
  bool nfc = false;
  std::vector<std::string> split_patterns;  // PCRE2 syntax, applied one after the other
  bool ignore_merges = false;               // a piece that is a token is that token, whatever the merges say
};

// kUnsupported with the JSON pointer and the value that is not understood. Takes the list's entries.
Result<TokenizerSettings> interpret_settings(SettingList& list);

// `text` as a JSON string for a message, at most about 60 bytes of it.
std::string quote_briefly(std::string_view text);

}  // namespace axon
