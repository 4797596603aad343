// Any bytes as a line of a dataset, for both objectives: an error that begins with its place, or an example whose text
// is UTF-8 and that reads the same when its format is known.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/utf8.h"
#include "train/data_record.h"

using namespace axon;
using namespace axon::train;

// All text of a record, which must be well formed.
struct Texts {
  std::string all;
  void add(std::string_view text) {
    AXON_CHECK(!utf8::first_error(text));
    all += text;
    all += '\0';
  }
  void add(const std::vector<Message>& messages) {
    AXON_CHECK(!messages.empty());
    for (const Message& message : messages) {
      AXON_CHECK(!message.role.empty() && message.role.find('\n') == std::string::npos);
      add(message.role);
      add(message.content);
    }
  }
  void operator()(const Chat& chat) { add(chat.messages); }
  void operator()(const Completion& pair) { add(pair.prompt), add(pair.completion); }
  void operator()(const Text& text) { add(text.text); }
  void operator()(const Preference& pair) { add(pair.prompt), add(pair.chosen), add(pair.rejected); }
};

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view line(reinterpret_cast<const char*>(data), size);
  for (const Objective objective : {Objective::kSupervised, Objective::kPreference}) {
    const auto parsed = parse_record(line, "fuzz", objective, {});
    if (!parsed.ok()) {
      AXON_CHECK(parsed.error().message.starts_with("fuzz: "));
      continue;
    }
    const ParsedRecord first = Result<ParsedRecord>(parsed).value();
    AXON_CHECK((objective == Objective::kPreference) == std::holds_alternative<Preference>(first.record));
    const auto again = parse_record(line, "fuzz", objective, first.format);
    AXON_CHECK(again.ok());
    Texts one, two;
    std::visit(one, first.record);
    std::visit(two, Result<ParsedRecord>(again).value().record);
    AXON_CHECK(one.all == two.all);
  }
  return 0;
}
