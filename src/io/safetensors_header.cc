#include "io/safetensors_header.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/bytes.h"
#include "io/json.h"

namespace axon {
namespace {

constexpr std::string_view kMetadataKey = "__metadata__";

// Follows the header's events and turns each finished tensor object into a view, checked against the data section.
class HeaderHandler : public JsonHandler {
 public:
  HeaderHandler(std::span<const std::byte> data, SafetensorsHeader& out) : data_(data), out_(out) {}

  Status start_object() override;
  Status end_object() override;
  Status start_array() override;
  Status end_array() override;
  Status key(std::string_view text) override;
  Status string(std::string_view text) override;
  Status unsigned_integer(std::uint64_t value) override;
  Status negative_integer(std::int64_t value) override { return unexpected(fmt::format("{}", value)); }
  Status real(double value) override { return unexpected(fmt::format("the number {}", value)); }
  Status boolean(bool) override { return unexpected("a boolean"); }
  Status null() override;

 private:
  enum class Place { kStart, kTop, kMetadata, kTensor, kShape, kOffsets, kEnd };
  enum Field : unsigned { kNoField = 0, kDtype = 1, kShape = 2, kOffsets = 4, kAllFields = 7 };

  Status tensor_key(std::string_view text);
  Status finish_tensor();
  Status unexpected(std::string_view got) const;
  template <class... Args>
  Error tensor_error(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) const {
    return make_error(code, "tensor {}: {}", quoted(name_), fmt::format(format, std::forward<Args>(args)...));
  }

  std::span<const std::byte> data_;
  SafetensorsHeader& out_;
  Place place_ = Place::kStart;
  bool saw_metadata_ = false;
  std::string metadata_key_;

  std::string name_;  // of the tensor, and what is known of it so far
  unsigned seen_ = 0;
  Field field_ = kNoField;
  DType dtype_ = DType::kF32;
  std::array<std::uint64_t, Shape::kMaxRank> dims_{};
  std::size_t rank_ = 0;
  std::array<std::uint64_t, 2> offsets_{};
  std::size_t offset_count_ = 0;
};

Status HeaderHandler::unexpected(std::string_view got) const {
  switch (place_) {
    case Place::kMetadata:
      return make_error(ErrorCode::kCorrupt, "{}: {}: expected a string, got {}", kMetadataKey, quoted(metadata_key_),
                        got);
    case Place::kTop:
      if (name_ == kMetadataKey) {
        return make_error(ErrorCode::kCorrupt, "{}: expected an object of strings, got {}", kMetadataKey, got);
      }
      return tensor_error(ErrorCode::kCorrupt, "expected an object, got {}", got);
    case Place::kShape: return tensor_error(ErrorCode::kCorrupt, "shape: expected whole numbers from 0, got {}", got);
    case Place::kOffsets:
      return tensor_error(ErrorCode::kCorrupt, "data_offsets: expected whole numbers from 0, got {}", got);
    case Place::kTensor:
      return tensor_error(ErrorCode::kCorrupt, "{}, got {}",
                          field_ == kDtype   ? "dtype: expected a string"
                          : field_ == kShape ? "shape: expected an array"
                                             : "data_offsets: expected an array",
                          got);
    case Place::kStart:
    case Place::kEnd: break;
  }
  return make_error(ErrorCode::kCorrupt, "the header must be one object, got {}", got);
}

Status HeaderHandler::start_object() {
  if (place_ == Place::kStart) {
    place_ = Place::kTop;
    return Ok{};
  }
  if (place_ != Place::kTop) return unexpected("an object");
  if (name_ == kMetadataKey) {
    place_ = Place::kMetadata;
    return Ok{};
  }
  place_ = Place::kTensor;
  seen_ = 0;
  rank_ = 0;
  offset_count_ = 0;
  return Ok{};
}

Status HeaderHandler::end_object() {
  if (place_ == Place::kTensor) AXON_TRY(finish_tensor());
  place_ = place_ == Place::kTop ? Place::kEnd : Place::kTop;
  return Ok{};
}

Status HeaderHandler::start_array() {
  if (place_ != Place::kTensor || field_ == kDtype) return unexpected("an array");
  place_ = field_ == kShape ? Place::kShape : Place::kOffsets;
  return Ok{};
}

Status HeaderHandler::end_array() {
  if (place_ == Place::kOffsets && offset_count_ != 2) {
    return tensor_error(ErrorCode::kCorrupt, "data_offsets: expected 2 numbers, got {}", offset_count_);
  }
  place_ = Place::kTensor;
  return Ok{};
}

Status HeaderHandler::key(std::string_view text) {
  if (place_ == Place::kTensor) return tensor_key(text);
  if (place_ == Place::kMetadata) {
    metadata_key_ = text;
    return Ok{};
  }
  name_ = text;
  if (name_ != kMetadataKey) return Ok{};
  if (saw_metadata_) return make_error(ErrorCode::kCorrupt, "{} comes twice", kMetadataKey);
  saw_metadata_ = true;
  return Ok{};
}

Status HeaderHandler::tensor_key(std::string_view text) {
  field_ = text == "dtype" ? kDtype : text == "shape" ? kShape : text == "data_offsets" ? kOffsets : kNoField;
  if (field_ == kNoField) {
    return tensor_error(ErrorCode::kCorrupt, "expected dtype, shape and data_offsets, got the field {}", quoted(text));
  }
  if ((seen_ & field_) != 0) return tensor_error(ErrorCode::kCorrupt, "the field {} comes twice", text);
  seen_ |= field_;
  return Ok{};
}

Status HeaderHandler::string(std::string_view text) {
  if (place_ == Place::kMetadata) {
    if (out_.metadata.size() == safetensors_limit::kMetadataEntries) {
      return make_error(ErrorCode::kUnsupported, "{}: more than {} entries are not supported", kMetadataKey,
                        safetensors_limit::kMetadataEntries);
    }
    if (out_.metadata.try_emplace(std::move(metadata_key_), text).second) return Ok{};
    return make_error(ErrorCode::kCorrupt, "{}: the key {} comes twice", kMetadataKey, quoted(metadata_key_));
  }
  if (place_ != Place::kTensor || field_ != kDtype) return unexpected("a string");
  const std::optional<DType> dtype = dtype_from_name(text);
  if (!dtype) return tensor_error(ErrorCode::kUnsupported, "dtype {} is not supported", quoted(text));
  dtype_ = *dtype;
  return Ok{};
}

Status HeaderHandler::unsigned_integer(std::uint64_t value) {
  if (place_ == Place::kShape) {
    if (rank_ == Shape::kMaxRank) {
      return tensor_error(ErrorCode::kUnsupported, "shape: more than {} dimensions are not supported", Shape::kMaxRank);
    }
    dims_[rank_++] = value;
    return Ok{};
  }
  if (place_ == Place::kOffsets) {
    if (offset_count_ == 2) return tensor_error(ErrorCode::kCorrupt, "data_offsets: expected 2 numbers, got more");
    offsets_[offset_count_++] = value;
    return Ok{};
  }
  return unexpected(fmt::format("the number {}", value));
}

Status HeaderHandler::null() {
  if (place_ == Place::kTop && name_ == kMetadataKey) return Ok{};  // as MLX writes it
  return unexpected("null");
}

Status HeaderHandler::finish_tensor() {
  if (seen_ != kAllFields) {
    const std::string_view missing = (seen_ & kDtype) == 0 ? "dtype" : (seen_ & kShape) == 0 ? "shape" : "data_offsets";
    return tensor_error(ErrorCode::kCorrupt, "the field {} is missing", missing);
  }
  auto shape = Shape::create({dims_.data(), rank_});
  if (!shape.ok()) return tensor_error(ErrorCode::kCorrupt, "{}", shape.error().message);
  const std::uint64_t elements = shape.value().elements();
  if (elements % 8 * bits_of(dtype_) % 8 != 0) {
    return tensor_error(ErrorCode::kCorrupt, "{} {} does not fill whole bytes", name_of(dtype_),
                        to_string(shape.value()));
  }
  const auto size = packed_bytes(dtype_, elements);
  const auto [begin, end] = offsets_;
  if (begin > end || end > data_.size()) {
    return tensor_error(ErrorCode::kCorrupt, "data_offsets [{}, {}] do not lie in the file's {} bytes of data", begin,
                        end, data_.size());
  }
  if (!size || end - begin != *size) {
    return tensor_error(ErrorCode::kCorrupt, "data_offsets [{}, {}] hold {} bytes, but {} {} needs {}", begin, end,
                        end - begin, name_of(dtype_), to_string(shape.value()),
                        size ? fmt::to_string(*size) : "more than 2^64");
  }
  if (out_.tensors.size() == safetensors_limit::kTensors) {
    return make_error(ErrorCode::kUnsupported, "more than {} tensors are not supported", safetensors_limit::kTensors);
  }
  const TensorView view{dtype_, shape.value(), data_.subspan(begin, end - begin), nullptr};
  if (!out_.tensors.try_emplace(std::move(name_), view).second) {
    return tensor_error(ErrorCode::kCorrupt, "the name comes twice");
  }
  return Ok{};
}

// The format's rule: put in order, each tensor begins where the one before ends, and the last ends with the file.
Status check_cover(const Safetensors::Tensors& tensors, std::span<const std::byte> data) {
  std::vector<const Safetensors::Tensors::value_type*> order;
  order.reserve(tensors.size());
  for (const auto& entry : tensors) order.push_back(&entry);
  const auto begin_of = [&](const auto* entry) {
    return static_cast<std::uint64_t>(entry->second.bytes.data() - data.data());
  };
  std::sort(order.begin(), order.end(), [&](const auto* a, const auto* b) {
    return std::pair(begin_of(a), a->second.bytes.size()) < std::pair(begin_of(b), b->second.bytes.size());
  });
  std::uint64_t covered = 0;
  const std::string* previous = nullptr;
  for (const auto* entry : order) {
    const std::uint64_t begin = begin_of(entry);
    if (begin < covered) {
      return make_error(ErrorCode::kCorrupt, "tensors {} and {} overlap: one ends at {}, the next begins at {}",
                        quoted(*previous), quoted(entry->first), covered, begin);
    }
    if (begin > covered) {
      return make_error(ErrorCode::kCorrupt, "tensor {}: begins at {}, but the data before it ends at {}: a hole",
                        quoted(entry->first), begin, covered);
    }
    covered = begin + entry->second.bytes.size();
    previous = &entry->first;
  }
  if (covered != data.size()) {
    return make_error(ErrorCode::kCorrupt, "the tensors end at {}, but the file has {} bytes of data", covered,
                      data.size());
  }
  return Ok{};
}

// Trailing blanks are padding, and may be long.
std::string_view without_padding(std::string_view text) {
  const std::size_t last = text.find_last_not_of(" \t\r\n");
  return last == std::string_view::npos ? std::string_view{} : text.substr(0, last + 1);
}

std::uint64_t read_length(std::span<const std::byte> bytes) {
  std::uint64_t length = 0;
  for (std::size_t i = 8; i-- > 0;) length = length << 8 | std::to_integer<std::uint64_t>(bytes[i]);
  return length;
}

}  // namespace

std::string quoted(std::string_view name) {
  constexpr std::size_t kShown = 200;
  return name.size() <= kShown ? json_quote(name) : json_quote(name.substr(0, kShown)) + "...";
}

Result<SafetensorsHeader> parse_safetensors_header(std::span<const std::byte> bytes, std::string_view what) {
  if (bytes.size() < 8) {
    return make_error(ErrorCode::kCorrupt,
                      "{}: a safetensors file starts with 8 bytes of length, this one has {} bytes", what,
                      bytes.size());
  }
  const std::uint64_t length = read_length(bytes);
  if (length > bytes.size() - 8 || length > safetensors_limit::kHeaderBytes) {
    return make_error(ErrorCode::kCorrupt,
                      "{}: the header's length is given as {}; the file has {} bytes after it, and "
                      "the format allows {}",
                      what, length, bytes.size() - 8, safetensors_limit::kHeaderBytes);
  }
  SafetensorsHeader out;
  out.text = bytes.first(8 + length);
  const std::span<const std::byte> data = bytes.subspan(8 + length);
  const std::string_view text =
      without_padding({reinterpret_cast<const char*>(bytes.data()) + 8, static_cast<std::size_t>(length)});
  if (!text.starts_with('{')) return make_error(ErrorCode::kCorrupt, "{}: the header does not start with '{{'", what);
  HeaderHandler handler(data, out);
  AXON_TRY(read_json(text, what, handler, 4));
  const Status cover = check_cover(out.tensors, data);
  if (!cover.ok()) return Error{cover.error().code, fmt::format("{}: {}", what, cover.error().message)};
  return out;
}

}  // namespace axon
