#include <set>

#include "base/bytes.h"
#include "io/json.h"
#include "io/json_scan.h"
#include "io/safetensors.h"
#include "io/safetensors_header.h"

namespace axon {
namespace {

constexpr std::size_t kDataAlignment = 64;

std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

// `text` as a JSON string, or no value when it would not read back as it is: json_quote puts U+FFFD for what is not
// UTF-8, and the reader bounds the length.
Result<std::string> exact_quote(std::string_view text) {
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  std::string out = json_quote(text);
  if (count_of(out, kReplacement) != count_of(text, kReplacement)) {
    return make_error(ErrorCode::kInvalidArgument, "{} is not UTF-8", quoted(text));
  }
  if (out.size() - 2 > kMaxJsonString) {
    return make_error(ErrorCode::kInvalidArgument, "{} is longer than {} bytes", quoted(text), kMaxJsonString);
  }
  return out;
}

Result<std::string> metadata_entry(const std::map<std::string, std::string>& metadata) {
  if (metadata.size() > safetensors_limit::kMetadataEntries) {
    return make_error(ErrorCode::kInvalidArgument, "{} metadata entries, at most {} can be written", metadata.size(),
                      safetensors_limit::kMetadataEntries);
  }
  std::string out = "\"__metadata__\":{";
  for (const auto& [key, value] : metadata) {
    if (out.back() != '{') out += ',';
    out += AXON_TRY(exact_quote(key));
    out += ':';
    out += AXON_TRY(exact_quote(value));
  }
  return out + "}";
}

// One tensor's entry; moves `offset` from its begin to its end.
Result<std::string> tensor_entry(const TensorHeader& tensor, std::uint64_t& offset) {
  const auto size = packed_bytes(tensor.dtype, tensor.shape.elements());
  const auto end = size ? checked_add(offset, *size) : std::nullopt;
  if (!end) {
    return make_error(ErrorCode::kInvalidArgument, "tensor {}: {} {} does not fit a file", quoted(tensor.name),
                      name_of(tensor.dtype), to_string(tensor.shape));
  }
  const std::uint64_t begin = std::exchange(offset, *end);
  const std::string name = AXON_TRY(exact_quote(tensor.name));
  return fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", name, name_of(tensor.dtype),
                     fmt::join(tensor.shape.dims(), ","), begin, *end);
}

Status check_names(std::span<const TensorHeader> tensors) {
  if (tensors.size() > safetensors_limit::kTensors) {
    return make_error(ErrorCode::kInvalidArgument, "{} tensors, at most {} can be written", tensors.size(),
                      safetensors_limit::kTensors);
  }
  std::set<std::string_view> names{"__metadata__"};
  for (const TensorHeader& tensor : tensors) {
    if (names.insert(tensor.name).second) continue;
    return make_error(ErrorCode::kInvalidArgument, "tensor {}: the name is taken", quoted(tensor.name));
  }
  return Ok{};
}

// Length field and JSON, padded; `data_size` receives the bytes that the tensors need.
Result<std::string> make_header(std::span<const TensorHeader> tensors,
                                const std::map<std::string, std::string>& metadata, std::uint64_t& data_size) {
  AXON_TRY(check_names(tensors));
  std::string out(8, '\0');
  out += '{';
  if (!metadata.empty()) out += AXON_TRY(metadata_entry(metadata));
  for (const TensorHeader& tensor : tensors) {
    if (out.back() != '{') out += ',';
    out += AXON_TRY(tensor_entry(tensor, data_size));
  }
  out += '}';
  out.resize(round_up(out.size(), kDataAlignment), ' ');
  const std::uint64_t length = out.size() - 8;
  if (length > safetensors_limit::kHeaderBytes) {
    return make_error(ErrorCode::kInvalidArgument, "the header would have {} bytes, the format allows {}", length,
                      safetensors_limit::kHeaderBytes);
  }
  for (std::size_t i = 0; i < 8; ++i) out[i] = static_cast<char>(length >> (8 * i) & 0xFF);
  return out;
}

}  // namespace

Result<Safetensors> Safetensors::unwritten(const std::vector<TensorHeader>& tensors, std::string_view what) {
  std::uint64_t data_size = 0;
  const std::string header = AXON_TRY(make_header(tensors, {}, data_size));
  const auto size = checked_add(header.size(), data_size);
  if (!size) return make_error(ErrorCode::kInvalidArgument, "{}: the tensors do not fit a file", what);
  auto file = std::make_unique<MappedFile>(AXON_TRY(MappedFile::unwritten(std::string(what), header, *size)));
  Safetensors out = AXON_TRY(parse(file->bytes(), what));
  for (auto& [name, tensor] : out.tensors_) tensor.file = file.get();
  out.files_.push_back(std::move(file));
  return out;
}

Result<SafetensorsWriter> SafetensorsWriter::create(const std::string& path, const std::vector<TensorHeader>& tensors,
                                                    const std::map<std::string, std::string>& metadata,
                                                    Existing existing) {
  std::uint64_t data_size = 0;
  Result<std::string> header = make_header(tensors, metadata, data_size);
  if (!header.ok()) return Error{header.error().code, fmt::format("{}: {}", path, header.error().message)};
  AtomicFile file = AXON_TRY(AtomicFile::create(path, existing));
  SafetensorsWriter writer(std::move(file), data_size);
  AXON_TRY(writer.file_.write(std::string_view(header.value())));
  writer.begins_.push_back(header.value().size());
  for (const TensorHeader& tensor : tensors) {
    writer.begins_.push_back(writer.begins_.back() + *packed_bytes(tensor.dtype, tensor.shape.elements()));
  }
  return writer;
}

Status SafetensorsWriter::write(std::span<const std::byte> bytes) {
  AXON_CHECK(bytes.size() <= expected_ - written_);
  AXON_TRY(file_.write(bytes));
  written_ += bytes.size();
  return Ok{};
}

Status SafetensorsWriter::write_at(std::size_t index, std::uint64_t offset, std::span<const std::byte> bytes) {
  AXON_CHECK(index + 1 < begins_.size() && begins_[index] + offset + bytes.size() <= begins_[index + 1]);
  AXON_TRY(file_.write_at(begins_[index] + offset, bytes));
  written_ += bytes.size();
  return Ok{};
}

Status SafetensorsWriter::finish() {
  AXON_CHECK(written_ == expected_);
  return file_.finish();
}

}  // namespace axon
