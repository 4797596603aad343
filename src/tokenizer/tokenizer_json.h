#pragma once
// The structure of a Hugging Face tokenizer.json, as a stream: settings are collected, the long lists are handed on.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "io/json.h"
#include "tokenizer/settings.h"

namespace axon {

// Ids and lengths in a tokenizer.json fit 31 bits: files are at most 256 MiB.
inline constexpr std::uint64_t kMaxTokenizerFile = std::uint64_t{256} << 20;

// What the long lists of the file say, in the file's order. Text is valid UTF-8, not empty, and lives during the call.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  virtual Status vocab_entry(std::string_view spelling, std::uint32_t id) = 0;
  virtual Status merge(std::string_view left, std::string_view right) = 0;
  virtual Status added_token(std::string_view content, std::uint32_t id, bool special) = 0;
};

// Feeds read_json()'s events to a sink and a list of settings. Checks the shape of the document and of every entry.
class TokenizerJson : public JsonHandler {
 public:
  explicit TokenizerJson(TokenSink& sink) : sink_(sink) {}

  SettingList& settings() { return settings_; }
  // Whether the merges came before the end of the vocabulary.
  bool merges_first() const { return merges_first_; }
  // kCorrupt if vocabulary or merges did not come.
  Status complete() const;

  Status start_object() override;
  Status end_object() override;
  Status start_array() override;
  Status end_array() override;
  Status key(std::string_view name) override;
  Status string(std::string_view text) override;
  Status unsigned_integer(std::uint64_t number) override;
  Status negative_integer(std::int64_t number) override;
  Status real(double number) override;
  Status boolean(bool value) override;
  Status null() override;

 private:
  enum class Zone { kSettings, kVocab, kMerges, kMergePair, kAddedTokens, kAddedToken };
  struct Level {
    bool is_array;
    std::size_t index;        // of the next element
    std::size_t path_length;  // of the container's own path
  };
  struct AddedToken {
    std::string content;
    std::uint32_t id = 0;
    bool special = false;
    unsigned fields = 0;  // seen so far, one bit each
  };

  void enter_value();
  Status setting(SettingList::Kind kind, std::string_view text);
  Status start_container(SettingList::Kind kind);
  Status scalar(SettingList::Kind kind, std::string_view text);
  Status misplaced(std::string_view what) const;
  Status added_flag(bool value);
  Status added_field();
  Status end_added_token();
  Status merge_line(std::string_view line);
  Result<std::uint32_t> checked_id(std::uint64_t number, std::string_view whose) const;

  TokenSink& sink_;
  SettingList settings_;
  Zone zone_ = Zone::kSettings;
  std::vector<Level> levels_;
  std::string path_;
  std::string name_;  // the last key: a token in the vocabulary, a field in an added token
  AddedToken added_;
  std::array<std::string, 2> pair_;
  std::size_t pair_size_ = 0;
  std::uint64_t merges_ = 0;
  bool vocab_seen_ = false, merges_seen_ = false, added_seen_ = false;
  bool merges_first_ = false;
};

}  // namespace axon
