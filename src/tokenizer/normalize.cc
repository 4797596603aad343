#include "tokenizer/normalize.h"

#include <algorithm>

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/stringpiece.h>

namespace axon {
namespace {

Error icu_error(UErrorCode status) {
  return make_error(ErrorCode::kIo, "Unicode normalisation failed: {}", u_errorName(status));
}

}  // namespace

Result<std::string_view> normalize_nfc(std::string_view text, std::string& buffer) {
  // Below U+0300 every text is in form C; as UTF-8 that is every lead byte below 0xCC.
  const auto may_change = [](char c) { return static_cast<unsigned char>(c) >= 0xCC; };
  if (std::none_of(text.begin(), text.end(), may_change)) return text;

  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(status);
  if (U_FAILURE(status)) return icu_error(status);
  const icu::StringPiece piece(text.data(), static_cast<std::int32_t>(text.size()));
  if (nfc->isNormalizedUTF8(piece, status)) return text;
  buffer.clear();
  icu::StringByteSink<std::string> sink(&buffer);
  nfc->normalizeUTF8(0, piece, sink, nullptr, status);
  if (U_FAILURE(status)) return icu_error(status);
  return std::string_view(buffer);
}

}  // namespace axon
