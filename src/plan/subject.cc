#include "plan/subject.h"

#include <algorithm>
#include <limits>

namespace axon {

Bytes Footprint::total() const {
  std::uint64_t sum = 0;
  for (const Account& account : accounts) {
    // Each account fits; a sum that does not is larger than any budget, and says so.
    sum = checked_add(sum, account.bytes.count).value_or(std::numeric_limits<std::uint64_t>::max());
  }
  return {sum};
}

bool Footprint::estimate() const {
  return std::any_of(accounts.begin(), accounts.end(), [](const Account& a) { return a.estimate; });
}

const Account& Footprint::largest() const {
  AXON_CHECK(!accounts.empty());
  return *std::max_element(accounts.begin(), accounts.end(),
                           [](const Account& a, const Account& b) { return a.bytes < b.bytes; });
}

Status Subject::add_adapter(const std::string& path, std::optional<double>) {
  return make_error(ErrorCode::kUnsupported, "{}: {} is no model of this program, which could take the adapter", path,
                    facts().target);
}

const Account* Footprint::find(std::string_view account) const {
  const auto at = std::find_if(accounts.begin(), accounts.end(), [&](const Account& a) { return a.name == account; });
  return at == accounts.end() ? nullptr : &*at;
}

std::string shell_word(std::string_view text) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%+,-./:=@_";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string_view::npos) return std::string(text);
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out + "'";
}

}  // namespace axon
