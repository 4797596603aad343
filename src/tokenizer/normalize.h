#pragma once
// Unicode normalisation form C. ICU stays behind this.

#include <string>
#include <string_view>

#include "base/error.h"

namespace axon {

// `text` (valid UTF-8, less than 2 GiB) in form C: itself if it is, otherwise written to `buffer`, which the result
// then refers to. kIo if ICU has no data.
Result<std::string_view> normalize_nfc(std::string_view text, std::string& buffer);

}  // namespace axon
