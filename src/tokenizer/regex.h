#pragma once
// One compiled split pattern. PCRE2 stays behind this.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;
struct pcre2_real_jit_stack_8;

namespace axon {

// What a search needs besides the pattern. One for each thread; any number of patterns can share it in turn.
class RegexScratch {
 public:
  RegexScratch();

 private:
  friend class Regex;
  struct Free {
    void operator()(pcre2_real_match_data_8* p) const;
    void operator()(pcre2_real_match_context_8* p) const;
    void operator()(pcre2_real_jit_stack_8* p) const;
  };
  std::unique_ptr<pcre2_real_match_data_8, Free> data_;
  std::unique_ptr<pcre2_real_match_context_8, Free> context_;
  std::unique_ptr<pcre2_real_jit_stack_8, Free> stack_;
};

// Immutable once compiled: any number of threads can search with it.
class Regex {
 public:
  struct Match {
    std::size_t begin;
    std::size_t end;  // begin == end: no match
  };

  // `pattern` as translate_pattern() writes them. kUnsupported if PCRE2 refuses it or if it can match an empty text.
  static Result<Regex> compile(const std::string& pattern);

  // The first match in `text` (valid UTF-8) at or after `from`. kInvalidArgument if the search takes too many steps.
  Result<Match> search(std::string_view text, std::size_t from, RegexScratch& scratch) const;

 private:
  struct Free {
    void operator()(pcre2_real_code_8* p) const;
  };
  explicit Regex(pcre2_real_code_8* code) : code_(code) {}
  std::unique_ptr<pcre2_real_code_8, Free> code_;
};

}  // namespace axon
