#include "io/gguf_header.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "base/bytes.h"
#include "base/utf8.h"
#include "io/gguf_cursor.h"

namespace axon {
namespace {

using Type = GgufValueType;

constexpr std::size_t kShortestEntry = 8 + 4 + 1;       // key length, value type, one byte
constexpr std::size_t kShortestTensor = 8 + 4 + 4 + 8;  // name length, n_dims, type, offset
constexpr std::uint64_t kDefaultAlignment = 32;

// Bytes of one value; 0 for texts and arrays.
std::size_t size_of(Type type) {
  switch (type) {
    case Type::kU8:
    case Type::kI8:
    case Type::kBool: return 1;
    case Type::kU16:
    case Type::kI16: return 2;
    case Type::kU32:
    case Type::kI32:
    case Type::kF32: return 4;
    case Type::kU64:
    case Type::kI64:
    case Type::kF64: return 8;
    case Type::kText:
    case Type::kArray: return 0;
  }
  return 0;
}

class HeaderParser {
 public:
  HeaderParser(std::span<const std::byte> bytes, std::string_view what) : bytes_(bytes), in_(bytes, what) {}
  Result<GgufHeader> parse();

 private:
  struct Counts {
    std::uint64_t tensors = 0, entries = 0;
  };
  Result<Counts> head();
  Status entry();
  Result<Type> value_type(std::string_view field);
  Result<GgufValue::Data> number(Type type);
  Result<GgufValue::Data> value(Type type);
  Result<GgufValue::Data> array();
  Status tensor();
  Result<std::string_view> name(std::string_view field);
  Status read_alignment();
  Status place_tensors();
  Status check_overlaps() const;
  Status check_names();

  std::span<const std::byte> bytes_;
  GgufCursor in_;
  GgufHeader out_;
  std::vector<std::uint64_t> offsets_;  // of the tensors, from the start of the data section
  std::size_t numbers_ = 0;             // kept in arrays
  std::uint64_t alignment_ = kDefaultAlignment;
};

Result<HeaderParser::Counts> HeaderParser::head() {
  if (bytes_.size() < 4 || std::memcmp(bytes_.data(), "GGUF", 4) != 0) {
    return in_.fail(ErrorCode::kCorrupt, "not a GGUF file: it does not start with \"GGUF\"");
  }
  AXON_TRY(in_.skip("magic", 4, 1));
  const auto version = AXON_TRY(in_.number<std::uint32_t>("version"));
  if (version != 0 && (version & 0xFFFFu) == 0) {
    return in_.fail(ErrorCode::kUnsupported, "version: a big-endian GGUF file, only little-endian ones are supported");
  }
  if (version == 0) return in_.fail(ErrorCode::kCorrupt, "version: expected 2 or 3, got 0");
  if (version != 2 && version != 3) {
    return in_.fail(ErrorCode::kUnsupported, "version: GGUF version {} is not supported, only 2 and 3 are", version);
  }
  Counts counts;
  counts.tensors = AXON_TRY(in_.number<std::uint64_t>("tensor_count"));
  counts.entries = AXON_TRY(in_.number<std::uint64_t>("metadata_kv_count"));
  const auto check = [&](std::string_view field, std::uint64_t count, std::size_t shortest,
                         std::size_t limit) -> Status {
    if (count > in_.left() / shortest) {
      return in_.fail(ErrorCode::kCorrupt, "{}: is given as {}, but the {} bytes after it hold {} at most", field,
                      count, in_.left(), in_.left() / shortest);
    }
    if (count <= limit) return Ok{};
    return in_.fail(ErrorCode::kUnsupported, "{}: is {}, more than {} are not supported", field, count, limit);
  };
  AXON_TRY(check("tensor_count", counts.tensors, kShortestTensor, gguf_limit::kTensors));
  AXON_TRY(check("metadata_kv_count", counts.entries, kShortestEntry, gguf_limit::kMetadataEntries));
  return counts;
}

Result<std::string_view> HeaderParser::name(std::string_view field) {
  const std::string_view text = AXON_TRY(in_.text(field));
  if (text.empty()) return in_.fail(ErrorCode::kCorrupt, "{}: is empty", field);
  if (text.size() > gguf_limit::kNameBytes) {
    return in_.fail(ErrorCode::kUnsupported, "{}: has {} bytes, more than {} are not supported", field, text.size(),
                    gguf_limit::kNameBytes);
  }
  if (utf8::first_error(text)) return in_.fail(ErrorCode::kCorrupt, "{}: {} is not UTF-8", field, quoted(text));
  return text;
}

Result<Type> HeaderParser::value_type(std::string_view field) {
  const auto type = AXON_TRY(in_.number<std::uint32_t>(field));
  if (type > static_cast<std::uint32_t>(Type::kF64)) {
    return in_.fail(ErrorCode::kCorrupt, "{}: expected 0 to 12, got {}", field, type);
  }
  return static_cast<Type>(type);
}

template <class T>
Result<GgufValue::Data> as(GgufCursor& in) {
  const T value = AXON_TRY(in.number<T>("value"));
  if constexpr (std::is_floating_point_v<T>) return GgufValue::Data(static_cast<double>(value));
  if constexpr (std::is_signed_v<T>) return GgufValue::Data(static_cast<std::int64_t>(value));
  return GgufValue::Data(static_cast<std::uint64_t>(value));
}

Result<GgufValue::Data> HeaderParser::number(Type type) {
  switch (type) {
    case Type::kU8: return as<std::uint8_t>(in_);
    case Type::kI8: return as<std::int8_t>(in_);
    case Type::kU16: return as<std::uint16_t>(in_);
    case Type::kI16: return as<std::int16_t>(in_);
    case Type::kU32: return as<std::uint32_t>(in_);
    case Type::kI32: return as<std::int32_t>(in_);
    case Type::kU64: return as<std::uint64_t>(in_);
    case Type::kI64: return as<std::int64_t>(in_);
    case Type::kF32: return as<float>(in_);
    case Type::kF64: return as<double>(in_);
    case Type::kBool: {
      const auto value = AXON_TRY(in_.number<std::uint8_t>("value"));
      if (value > 1) return in_.fail(ErrorCode::kCorrupt, "value: expected a BOOL of 0 or 1, got {}", value);
      return GgufValue::Data(value == 1);
    }
    case Type::kText:
    case Type::kArray: break;
  }
  AXON_CHECK(false);
}

Result<GgufValue::Data> HeaderParser::value(Type type) {
  if (type == Type::kArray) return array();
  if (type != Type::kText) return number(type);
  const std::string_view text = AXON_TRY(in_.text("value"));
  if (text.size() <= gguf_limit::kTextBytes) return GgufValue::Data(std::string(text));
  return GgufValue::Data(GgufValue::Skipped{.type = Type::kText, .count = text.size(), .array = false});
}

Result<GgufValue::Data> HeaderParser::array() {
  const Type type = AXON_TRY(value_type("array type"));
  if (type == Type::kArray) return in_.fail(ErrorCode::kUnsupported, "arrays of arrays are not supported");
  const auto count = AXON_TRY(in_.number<std::uint64_t>("array count"));
  const std::size_t shortest = type == Type::kText ? 8 : size_of(type);
  if (count > in_.left() / shortest) {
    return in_.fail(ErrorCode::kCorrupt, "array count: is given as {}, but the {} bytes after it hold {} at most",
                    count, in_.left(), in_.left() / shortest);
  }
  const GgufValue::Data skipped = GgufValue::Skipped{.type = type, .count = count, .array = true};
  if (type == Type::kText) {
    for (std::uint64_t i = 0; i < count; ++i) AXON_TRY(in_.text("array element"));
    return skipped;
  }
  if (count > gguf_limit::kArrayNumbers) {
    AXON_TRY(in_.skip("array", count, size_of(type)));
    return skipped;
  }
  numbers_ += static_cast<std::size_t>(count);
  if (numbers_ > gguf_limit::kAllNumbers) {
    return in_.fail(ErrorCode::kUnsupported, "short arrays hold more than {} numbers in all, which is not supported",
                    gguf_limit::kAllNumbers);
  }
  GgufValue::Unsigned wholes;
  GgufValue::Signed integers;
  GgufValue::Reals reals;
  const auto reserve = [&](auto& list) { list.reserve(static_cast<std::size_t>(count)); };
  const bool real = type == Type::kF32 || type == Type::kF64;
  const bool negative = type == Type::kI8 || type == Type::kI16 || type == Type::kI32 || type == Type::kI64;
  real ? reserve(reals) : negative ? reserve(integers) : reserve(wholes);
  for (std::uint64_t i = 0; i < count; ++i) {
    const GgufValue::Data one = AXON_TRY(number(type));
    if (const auto* x = std::get_if<std::uint64_t>(&one)) wholes.push_back(*x);
    if (const auto* x = std::get_if<bool>(&one)) wholes.push_back(*x ? 1 : 0);
    if (const auto* x = std::get_if<std::int64_t>(&one)) integers.push_back(*x);
    if (const auto* x = std::get_if<double>(&one)) reals.push_back(*x);
  }
  if (real) return GgufValue::Data(std::move(reals));
  if (negative) return GgufValue::Data(std::move(integers));
  return GgufValue::Data(std::move(wholes));
}

Status HeaderParser::entry() {
  const std::string_view key = AXON_TRY(name("key"));
  in_.call(key);
  const Type type = AXON_TRY(value_type("value type"));
  GgufValue::Data data = AXON_TRY(value(type));
  if (!out_.metadata.try_emplace(std::string(key), std::move(data)).second) {
    return in_.fail(ErrorCode::kCorrupt, "the key comes twice");
  }
  return Ok{};
}

Status HeaderParser::read_alignment() {
  const auto found = out_.metadata.find("general.alignment");
  if (found == out_.metadata.end()) return Ok{};
  const auto value = found->second.whole();
  if (!value || !std::has_single_bit(*value) || *value > gguf_limit::kAlignment) {
    in_.enter({}, 0);
    return in_.fail(ErrorCode::kCorrupt, "general.alignment: expected a power of two up to {}, got {}",
                    gguf_limit::kAlignment, found->second.brief());
  }
  alignment_ = *value;
  return Ok{};
}

Status HeaderParser::tensor() {
  GgufTensor out;
  out.name = AXON_TRY(name("name"));
  const std::string_view label(reinterpret_cast<const char*>(bytes_.data()) + in_.at() - out.name.size(),
                               out.name.size());
  in_.call(label);
  out.rank = AXON_TRY(in_.number<std::uint32_t>("n_dims"));
  if (out.rank > GgufTensor::kMaxRank) {
    return in_.fail(ErrorCode::kCorrupt, "n_dims: expected 0 to {}, got {}", GgufTensor::kMaxRank, out.rank);
  }
  std::optional<std::uint64_t> elements = 1;
  for (std::uint32_t i = 0; i < out.rank; ++i) {
    out.dims[i] = AXON_TRY(in_.number<std::uint64_t>("dims"));
    if (elements) elements = checked_mul(*elements, out.dims[i]);
  }
  const std::string shape = fmt::format("[{}]", fmt::join(out.dims.data(), out.dims.data() + out.rank, ", "));
  if (!elements) return in_.fail(ErrorCode::kCorrupt, "dims: the product of {} does not fit 64 bits", shape);
  const auto type = AXON_TRY(in_.number<std::uint32_t>("type"));
  out.type = ggml_type(type);
  if (out.type == nullptr) return in_.fail(ErrorCode::kUnsupported, "type: there is no tensor type {}", type);
  if (out.dims[0] % out.type->block_values != 0) {
    return in_.fail(ErrorCode::kCorrupt, "dims: {} of {}: the first must be a multiple of {}", out.type->name, shape,
                    out.type->block_values);
  }
  const auto size = out.type->bytes(*elements);
  const auto offset = AXON_TRY(in_.number<std::uint64_t>("offset"));
  if (!size || *size > bytes_.size()) {
    return in_.fail(ErrorCode::kCorrupt, "{} of {} takes {} bytes, but the file has {}", out.type->name, shape,
                    size ? fmt::to_string(*size) : "more than 2^64", bytes_.size());
  }
  if (offset % alignment_ != 0) {
    return in_.fail(ErrorCode::kCorrupt, "offset: {} is no multiple of the alignment {}", offset, alignment_);
  }
  // Where the data begins is known after the last tensor; until then the span has the right size alone.
  out.bytes = bytes_.first(static_cast<std::size_t>(*size));
  offsets_.push_back(offset);
  out_.tensors.push_back(std::move(out));
  return Ok{};
}

Status HeaderParser::place_tensors() {
  const std::uint64_t begin = std::min<std::uint64_t>(round_up(in_.at(), alignment_), bytes_.size());
  const std::span<const std::byte> data = bytes_.subspan(static_cast<std::size_t>(begin));
  for (std::size_t i = 0; i < out_.tensors.size(); ++i) {
    GgufTensor& tensor = out_.tensors[i];
    const std::uint64_t offset = offsets_[i], size = tensor.bytes.size();
    in_.enter("tensor", i);
    in_.call(tensor.name);
    if (offset > data.size() || size > data.size() - offset) {
      return in_.fail(ErrorCode::kCorrupt, "offset: {} bytes from {} do not lie in the file's {} bytes of data", size,
                      offset, data.size());
    }
    tensor.bytes = data.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(size));
  }
  return Ok{};
}

Status HeaderParser::check_overlaps() const {
  std::vector<const GgufTensor*> order;
  order.reserve(out_.tensors.size());
  for (const GgufTensor& tensor : out_.tensors) {
    if (!tensor.bytes.empty()) order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->bytes.data() < b->bytes.data(); });
  for (std::size_t i = 1; i < order.size(); ++i) {
    const GgufTensor &a = *order[i - 1], &b = *order[i];
    if (a.bytes.data() + a.bytes.size() <= b.bytes.data()) continue;
    return in_.fail(ErrorCode::kCorrupt, "tensors {} and {} overlap", quoted(a.name), quoted(b.name));
  }
  return Ok{};
}

Status HeaderParser::check_names() {
  std::vector<std::string_view> names;
  names.reserve(out_.tensors.size());
  for (const GgufTensor& tensor : out_.tensors) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice == names.end()) return Ok{};
  return in_.fail(ErrorCode::kCorrupt, "tensor {}: the name comes twice", quoted(*twice));
}

Result<GgufHeader> HeaderParser::parse() {
  const Counts counts = AXON_TRY(head());
  for (std::uint64_t i = 0; i < counts.entries; ++i) {
    in_.enter("metadata entry", i);
    AXON_TRY(entry());
  }
  AXON_TRY(read_alignment());
  out_.tensors.reserve(static_cast<std::size_t>(counts.tensors));
  offsets_.reserve(static_cast<std::size_t>(counts.tensors));
  for (std::uint64_t i = 0; i < counts.tensors; ++i) {
    in_.enter("tensor", i);
    AXON_TRY(tensor());
  }
  in_.enter({}, 0);
  out_.text = bytes_.first(in_.at());
  AXON_TRY(check_names());
  AXON_TRY(place_tensors());
  in_.enter({}, 0);
  AXON_TRY(check_overlaps());
  return std::move(out_);
}

}  // namespace

Result<GgufHeader> parse_gguf_header(std::span<const std::byte> bytes, std::string_view what) {
  return HeaderParser(bytes, what).parse();
}

}  // namespace axon
