#include "io/json.h"

#include <optional>

#include <nlohmann/json.hpp>

#include "io/json_scan.h"

namespace axon {
namespace {

// Turns nlohmann's events into ours, and bounds the depth.
class Events : public nlohmann::json_sax<nlohmann::json> {
 public:
  Events(JsonHandler& handler, std::size_t max_depth) : handler_(handler), max_depth_(max_depth) {}
  std::optional<Error> error;

  bool null() override { return ok(handler_.null()); }
  bool boolean(bool v) override { return ok(handler_.boolean(v)); }
  bool number_integer(number_integer_t v) override {
    return ok(handler_.negative_integer(v));  // called for literals with a minus only, "-0" among them
  }
  bool number_unsigned(number_unsigned_t v) override { return ok(handler_.unsigned_integer(v)); }
  bool number_float(number_float_t v, const string_t&) override { return ok(handler_.real(v)); }
  bool string(string_t& v) override { return ok(handler_.string(v)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return deeper() && ok(handler_.start_object()); }
  bool end_object() override { return --depth_, ok(handler_.end_object()); }
  bool start_array(std::size_t) override { return deeper() && ok(handler_.start_array()); }
  bool end_array() override { return --depth_, ok(handler_.end_array()); }
  bool key(string_t& v) override { return ok(handler_.key(v)); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) override {
    error = make_error(ErrorCode::kCorrupt, "not valid JSON at byte {}", position);
    return false;
  }

 private:
  bool ok(const Status& status) {
    if (!status.ok()) error = status.error();
    return status.ok();
  }
  bool deeper() {
    if (++depth_ <= max_depth_) return true;
    error = make_error(ErrorCode::kCorrupt, "JSON is nested deeper than {} levels", max_depth_);
    return false;
  }
  JsonHandler& handler_;
  std::size_t max_depth_;
  std::size_t depth_ = 0;
};

}  // namespace

Status read_json(std::string_view text, std::string_view what, JsonHandler& handler, std::size_t max_depth) {
  AXON_TRY(scan_json(text, what));
  Events events(handler, max_depth);
  const bool done = nlohmann::json::sax_parse(text.begin(), text.end(), &events);
  if (events.error) {
    return Error{events.error->code, fmt::format("{}: {}", what, events.error->message)};
  }
  if (!done) return make_error(ErrorCode::kCorrupt, "{}: not valid JSON", what);
  return Ok{};
}

std::string json_quote(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace axon
