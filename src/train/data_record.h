#pragma once
// One line of a dataset as text: which format it is in, and what it says. docs/training-data.md shows each format.

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.h"
#include "tokenizer/chat_template.h"

namespace axon::train {

// By the keys that a line must have; other keys are passed over.
enum class DataFormat {
  kMessages,       // messages: [{role, content}]
  kConversations,  // conversations: [{from, value}], system_prompt if any
  kAlpaca,         // instruction, input if any, output
  kCompletion,     // prompt, completion
  kText,           // text
  kPreference,     // prompt, chosen, rejected: each a string or a list of messages
};
std::string_view format_name(DataFormat format);

// What a training run learns from.
enum class Objective { kSupervised, kPreference };

struct Chat {
  std::vector<Message> messages;
};
struct Completion {
  std::string prompt, completion;
};
struct Text {
  std::string text;
};
struct Preference {
  std::vector<Message> prompt, chosen, rejected;
};
using Record = std::variant<Chat, Completion, Text, Preference>;

struct ParsedRecord {
  DataFormat format;
  Record record;
};

// Reads a line in `format`, or in the first format whose keys it has. `what` ("FILE:LINE") begins every message:
// kCorrupt for what is no UTF-8 or JSON, kInvalidArgument for what is no example, with what was expected and what came.
Result<ParsedRecord> parse_record(std::string_view line, std::string_view what, Objective objective,
                                  std::optional<DataFormat> format);

}  // namespace axon::train
