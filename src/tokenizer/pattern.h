#pragma once
// Regular expressions of tokenizer.json files. They are written for Oniguruma (Ruby syntax); PCRE2 runs them. Only what
// means the same to both, or can be said in the other's words, is let through.

#include <string>
#include <string_view>

#include "base/error.h"

namespace axon {

// `pattern` in PCRE2's words, for PCRE2_UTF | PCRE2_UCP. kUnsupported with the construct that has no safe translation.
// Known: literals, \r \n \t \f, \s \S \d \D, \p{general category}, classes and ranges, | (?: ) (?i: ) (?= ) (?! ),
// quantifiers * + ? {n} {n,} {n,m}.
Result<std::string> translate_pattern(std::string_view pattern);

// A pattern that matches exactly `text`. kUnsupported when the text is empty.
Result<std::string> literal_pattern(std::string_view text);

}  // namespace axon
