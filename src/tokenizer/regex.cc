#include "tokenizer/regex.h"

#include <algorithm>
#include <array>
#include <cstdint>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace axon {
namespace {

constexpr std::size_t kJitStackStart = 32 << 10;
constexpr std::size_t kJitStackMax = 1 << 20;
constexpr std::uint32_t kHeapLimitKib = 64 << 10;

// A text of n bytes may take some backtracking steps a byte: enough for every run of spaces, too few for a trap.
std::uint32_t step_limit(std::size_t bytes) {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(10'000'000 + std::uint64_t{8} * bytes, UINT32_MAX));
}

std::string pcre_message(int code) {
  std::array<unsigned char, 160> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

PCRE2_SPTR units(const char* text) { return reinterpret_cast<PCRE2_SPTR>(text); }

}  // namespace

void RegexScratch::Free::operator()(pcre2_real_match_data_8* p) const { pcre2_match_data_free(p); }
void RegexScratch::Free::operator()(pcre2_real_match_context_8* p) const { pcre2_match_context_free(p); }
void RegexScratch::Free::operator()(pcre2_real_jit_stack_8* p) const { pcre2_jit_stack_free(p); }
void Regex::Free::operator()(pcre2_real_code_8* p) const { pcre2_code_free(p); }

RegexScratch::RegexScratch()
    : data_(pcre2_match_data_create(1, nullptr)),
      context_(pcre2_match_context_create(nullptr)),
      stack_(pcre2_jit_stack_create(kJitStackStart, kJitStackMax, nullptr)) {
  AXON_CHECK(data_ != nullptr && context_ != nullptr);
  pcre2_set_heap_limit(context_.get(), kHeapLimitKib);
  if (stack_ != nullptr) pcre2_jit_stack_assign(context_.get(), nullptr, stack_.get());
}

Result<Regex> Regex::compile(const std::string& pattern) {
  int error = 0;
  PCRE2_SIZE at = 0;
  constexpr std::uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
  Regex regex(pcre2_compile(units(pattern.c_str()), pattern.size(), kOptions, &error, &at, nullptr));
  if (regex.code_ == nullptr) {
    return make_error(ErrorCode::kUnsupported, "the split pattern {} is refused at byte {}: {}", pattern, at,
                      pcre_message(error));
  }
  std::uint32_t matches_empty = 0;
  pcre2_pattern_info(regex.code_.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
  if (matches_empty != 0) {
    return make_error(ErrorCode::kUnsupported, "the split pattern {} can match an empty text", pattern);
  }
  // Where the system forbids to make code, PCRE2 interprets: slower, with the same answers.
  pcre2_jit_compile(regex.code_.get(), PCRE2_JIT_COMPLETE);
  return regex;
}

Result<Regex::Match> Regex::search(std::string_view text, std::size_t from, RegexScratch& scratch) const {
  pcre2_match_data* data = scratch.data_.get();
  pcre2_match_context* context = scratch.context_.get();
  pcre2_set_match_limit(context, step_limit(text.size() - from));
  const auto attempt = [&](std::uint32_t options) {
    return pcre2_match(code_.get(), units(text.data()), text.size(), from,
                       options | PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, data, context);
  };
  int found = attempt(0);
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = attempt(PCRE2_NO_JIT);
  if (found == PCRE2_ERROR_NOMATCH) return Match{text.size(), text.size()};
  if (found < 0) {
    return make_error(ErrorCode::kInvalidArgument, "splitting the text stopped after byte {}: {}", from,
                      pcre_message(found));
  }
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data);
  return Match{range[0], range[1]};
}

}  // namespace axon
