#include "train/data_record.h"

#include <array>

#include "base/utf8.h"
#include "io/json.h"
#include "io/json_value.h"

namespace axon::train {
namespace {

struct FormatRow {
  DataFormat format;
  std::string_view name;
  std::array<std::string_view, 3> keys;  // that a line must have
  Objective objective;
};
// A line with the keys of several is in the first: tables of instructions often carry a rendered "text" as well.
constexpr std::array kFormats{
    FormatRow{DataFormat::kMessages, "messages", {"messages"}, Objective::kSupervised},
    FormatRow{DataFormat::kConversations, "conversations", {"conversations"}, Objective::kSupervised},
    FormatRow{DataFormat::kAlpaca, "alpaca", {"instruction", "output"}, Objective::kSupervised},
    FormatRow{DataFormat::kCompletion, "completion", {"prompt", "completion"}, Objective::kSupervised},
    FormatRow{DataFormat::kText, "text", {"text"}, Objective::kSupervised},
    FormatRow{DataFormat::kPreference, "preference", {"prompt", "chosen", "rejected"}, Objective::kPreference},
};

const FormatRow& row_of(DataFormat format) {
  for (const FormatRow& row : kFormats) {
    if (row.format == format) return row;
  }
  AXON_CHECK(false);
  return kFormats[0];
}

bool has_keys(const JsonValue& object, const FormatRow& row) {
  for (const std::string_view key : row.keys) {
    if (!key.empty() && object.find(key) == nullptr) return false;
  }
  return true;
}

std::string quoted_keys(const FormatRow& row) {
  std::string out;
  for (std::size_t i = 0; i < row.keys.size() && !row.keys[i].empty(); ++i) {
    const bool last = i + 1 == row.keys.size() || row.keys[i + 1].empty();
    out += fmt::format("{}\"{}\"", i == 0 ? "" : (last ? " and " : ", "), row.keys[i]);
  }
  return out;
}

// The keys that came, for a message.
std::string keys_of(const JsonValue& object) {
  constexpr std::size_t kNamed = 6;
  const auto& members = *object.get<JsonValue::Object>();
  std::string out;
  for (std::size_t i = 0; i < members.size() && i < kNamed; ++i) {
    out += fmt::format("{}{}", i == 0 ? "" : ", ", JsonValue(members[i].first).brief());
  }
  if (members.size() > kNamed) out += fmt::format(" and {} more", members.size() - kNamed);
  return out.empty() ? "an object without keys" : out;
}

// Reads values of one line; every error says where, what was expected and what came.
class Reader {
 public:
  Reader(const JsonValue& object, std::string_view what) : object_(object), what_(what) {}

  Result<Record> record(DataFormat format) const {
    switch (format) {
      case DataFormat::kMessages: return chat("messages", "role", "content");
      case DataFormat::kConversations: return conversation();
      case DataFormat::kAlpaca: return alpaca();
      case DataFormat::kCompletion: return completion();
      case DataFormat::kText: return Record(Text{AXON_TRY(text(object_, "text", ""))});
      case DataFormat::kPreference: return preference();
    }
    AXON_CHECK(false);
    return Record(Text{});
  }

 private:
  Error expected(std::string_view where, std::string_view wanted, const JsonValue* came) const {
    return make_error(ErrorCode::kInvalidArgument, "{}: {}: expected {}, came {}", what_, where, wanted,
                      came == nullptr ? "nothing" : came->brief());
  }
  Result<std::string> text(const JsonValue& object, std::string_view key, std::string_view within) const {
    const JsonValue* value = object.find(key);
    const std::string* text = value == nullptr ? nullptr : value->get<std::string>();
    if (text == nullptr) return expected(fmt::format("{}\"{}\"", within, key), "a string", value);
    return *text;
  }
  // Structs are filled member by member: AXON_TRY out of a braced list would not destroy what stands in it already.
  Result<std::vector<Message>> messages(const JsonValue& value, std::string_view key, std::string_view role_key,
                                        std::string_view content_key) const {
    const auto* list = value.get<JsonValue::Array>();
    if (list == nullptr || list->empty()) {
      return expected(fmt::format("\"{}\"", key), "a list of one or more messages", &value);
    }
    std::vector<Message> out;
    for (std::size_t i = 0; i < list->size(); ++i) {
      const JsonValue& item = (*list)[i];
      const std::string within = fmt::format("\"{}\"[{}]", key, i);
      if (item.get<JsonValue::Object>() == nullptr) return expected(within, "an object", &item);
      Message message;
      message.role = AXON_TRY(text(item, role_key, within + "."));
      message.content = AXON_TRY(text(item, content_key, within + "."));
      if (message.role.empty() || message.role.find_first_of("\r\n") != std::string::npos) {
        return expected(fmt::format("{}.\"{}\"", within, role_key), "a name on one line", item.find(role_key));
      }
      out.push_back(std::move(message));
    }
    return out;
  }
  Result<std::vector<Message>> messages(std::string_view key, std::string_view role_key,
                                        std::string_view content_key) const {
    const JsonValue* value = object_.find(key);
    AXON_CHECK(value != nullptr);
    return messages(*value, key, role_key, content_key);
  }
  Result<Record> chat(std::string_view key, std::string_view role_key, std::string_view content_key) const {
    return Record(Chat{AXON_TRY(messages(key, role_key, content_key))});
  }
  Result<Record> conversation() const {
    Chat chat;
    if (const JsonValue* system = object_.find("system_prompt"); system != nullptr && !system->is_null()) {
      std::string prompt = AXON_TRY(text(object_, "system_prompt", ""));
      if (!prompt.empty()) chat.messages.push_back({"system", std::move(prompt)});
    }
    for (Message& message : AXON_TRY(messages("conversations", "from", "value"))) {
      if (message.role == "human") message.role = "user";
      if (message.role == "gpt") message.role = "assistant";
      chat.messages.push_back(std::move(message));
    }
    return Record(std::move(chat));
  }
  Result<Record> completion() const {
    Completion pair;
    pair.prompt = AXON_TRY(text(object_, "prompt", ""));
    pair.completion = AXON_TRY(text(object_, "completion", ""));
    return Record(std::move(pair));
  }
  Result<Record> alpaca() const {
    std::string question = AXON_TRY(text(object_, "instruction", ""));
    if (const JsonValue* input = object_.find("input"); input != nullptr && !input->is_null()) {
      const std::string more = AXON_TRY(text(object_, "input", ""));
      if (!more.empty()) question += "\n\n" + more;
    }
    std::string answer = AXON_TRY(text(object_, "output", ""));
    return Record(Chat{{{"user", std::move(question)}, {"assistant", std::move(answer)}}});
  }
  // A string stands for one message of `role`.
  Result<std::vector<Message>> side(std::string_view key, std::string_view role) const {
    const JsonValue* value = object_.find(key);
    AXON_CHECK(value != nullptr);
    if (const std::string* text = value->get<std::string>()) {
      return std::vector<Message>{{std::string(role), *text}};
    }
    if (value->get<JsonValue::Array>() == nullptr) {
      return expected(fmt::format("\"{}\"", key), "a string or a list of messages", value);
    }
    return messages(*value, key, "role", "content");
  }
  Result<Record> preference() const {
    Preference pair;
    pair.prompt = AXON_TRY(side("prompt", "user"));
    pair.chosen = AXON_TRY(side("chosen", "assistant"));
    pair.rejected = AXON_TRY(side("rejected", "assistant"));
    return Record(std::move(pair));
  }

  const JsonValue& object_;
  std::string_view what_;
};

Result<DataFormat> detect(const JsonValue& object, std::string_view what, Objective objective) {
  for (const FormatRow& row : kFormats) {
    if (row.objective == objective && has_keys(object, row)) return row.format;
  }
  std::string wanted;
  for (const FormatRow& row : kFormats) {
    if (row.objective == objective) wanted += fmt::format("{}{}", wanted.empty() ? "" : "; or ", quoted_keys(row));
  }
  const bool other = objective == Objective::kSupervised && has_keys(object, row_of(DataFormat::kPreference));
  return make_error(ErrorCode::kInvalidArgument, "{}: expected {}; came {}{}", what, wanted, keys_of(object),
                    other ? " (pairs for preference training)" : "");
}

}  // namespace

std::string_view format_name(DataFormat format) { return row_of(format).name; }

Result<ParsedRecord> parse_record(std::string_view line, std::string_view what, Objective objective,
                                  std::optional<DataFormat> format) {
  if (const auto bad = utf8::first_error(line)) {
    return make_error(ErrorCode::kCorrupt, "{}: not valid UTF-8 at byte {}", what, *bad + 1);
  }
  const JsonValue value = AXON_TRY(read_json_value(line, what));
  if (value.get<JsonValue::Object>() == nullptr) {
    return make_error(ErrorCode::kInvalidArgument, "{}: expected an object, came {}", what, value.brief());
  }
  if (format && !has_keys(value, row_of(*format))) {
    return make_error(ErrorCode::kInvalidArgument, "{}: expected {} as in the lines before, came {}", what,
                      quoted_keys(row_of(*format)), keys_of(value));
  }
  const DataFormat known = format ? *format : AXON_TRY(detect(value, what, objective));
  return ParsedRecord{known, AXON_TRY(Reader(value, what).record(known))};
}

}  // namespace axon::train
