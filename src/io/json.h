#pragma once
// Reading JSON as a stream of events, in memory that does not grow with the document. nlohmann-json stays behind this.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace axon {

// What a document says, in order. Every handler returns success or the error that ends the reading.
// `key` and `string` hand over text that is valid UTF-8 and lives only during the call. Duplicate keys are reported as
// they come: who cares must look.
class JsonHandler {
 public:
  virtual ~JsonHandler() = default;
  virtual Status start_object() { return Ok{}; }
  virtual Status end_object() { return Ok{}; }
  virtual Status start_array() { return Ok{}; }
  virtual Status end_array() { return Ok{}; }
  virtual Status key(std::string_view) { return Ok{}; }
  virtual Status string(std::string_view) { return Ok{}; }
  virtual Status unsigned_integer(std::uint64_t) { return Ok{}; }
  virtual Status negative_integer(std::int64_t) { return Ok{}; }
  virtual Status real(double) { return Ok{}; }
  virtual Status boolean(bool) { return Ok{}; }
  virtual Status null() { return Ok{}; }
};

// Reads one document; kCorrupt with the byte position on a syntax error, on nesting deeper than `max_depth`, on
// trailing text (spaces are allowed), and on strings over 1 MiB (json_scan.h: they would cost several times that).
// `what` names the document in messages.
Status read_json(std::string_view text, std::string_view what, JsonHandler& handler, std::size_t max_depth = 16);

// `text` as a JSON string literal, quotes included.
std::string json_quote(std::string_view text);

}  // namespace axon
