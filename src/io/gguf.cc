#include "io/gguf.h"

#include <algorithm>
#include <type_traits>

#include "io/gguf_header.h"
#include "io/safetensors_header.h"

namespace axon {

std::string_view name_of(GgufValueType type) {
  switch (type) {
    case GgufValueType::kU8: return "UINT8";
    case GgufValueType::kI8: return "INT8";
    case GgufValueType::kU16: return "UINT16";
    case GgufValueType::kI16: return "INT16";
    case GgufValueType::kU32: return "UINT32";
    case GgufValueType::kI32: return "INT32";
    case GgufValueType::kF32: return "FLOAT32";
    case GgufValueType::kBool: return "BOOL";
    case GgufValueType::kText: return "STRING";
    case GgufValueType::kArray: return "ARRAY";
    case GgufValueType::kU64: return "UINT64";
    case GgufValueType::kI64: return "INT64";
    case GgufValueType::kF64: return "FLOAT64";
  }
  return "?";
}

std::optional<std::uint64_t> GgufValue::whole() const {
  if (const auto* value = get<std::uint64_t>()) return *value;
  const auto* value = get<std::int64_t>();
  if (value == nullptr || *value < 0) return std::nullopt;
  return static_cast<std::uint64_t>(*value);
}

std::optional<std::vector<std::uint64_t>> GgufValue::wholes() const {
  if (const auto* list = get<Unsigned>()) return *list;
  const auto* list = get<Signed>();
  if (list == nullptr || std::any_of(list->begin(), list->end(), [](std::int64_t x) { return x < 0; })) {
    return std::nullopt;
  }
  return std::vector<std::uint64_t>(list->begin(), list->end());
}

std::optional<std::uint64_t> GgufValue::array_size() const {
  if (const auto* list = get<Unsigned>()) return list->size();
  if (const auto* list = get<Signed>()) return list->size();
  if (const auto* list = get<Reals>()) return list->size();
  const auto* skipped = get<Skipped>();
  if (skipped == nullptr || !skipped->array) return std::nullopt;
  return skipped->count;
}

std::string GgufValue::brief() const {
  return std::visit(
      [](const auto& value) -> std::string {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, bool>) {
          return value ? "true" : "false";
        } else if constexpr (std::is_arithmetic_v<T>) {
          return fmt::format("the number {}", value);
        } else if constexpr (std::is_same_v<T, std::string>) {
          return quoted(value.substr(0, 60));
        } else if constexpr (std::is_same_v<T, Skipped>) {
          return value.array ? fmt::format("an array of {} {}", value.count, name_of(value.type))
                             : fmt::format("a text of {} bytes", value.count);
        } else {
          return fmt::format("an array of {} numbers", value.size());
        }
      },
      data_);
}

namespace {

constexpr std::string_view kSplitCount = "split.count", kSplitNumber = "split.no";

// A whole number of the metadata; `otherwise` when there is none.
Result<std::uint64_t> whole_or(const Gguf::Metadata& metadata, std::string_view key, std::uint64_t otherwise,
                               std::string_view path) {
  const auto found = metadata.find(key);
  if (found == metadata.end()) return otherwise;
  const auto value = found->second.whole();
  if (value) return *value;
  return make_error(ErrorCode::kCorrupt, "{}: {}: expected a whole number from 0, got {}", path, key,
                    found->second.brief());
}

std::string shard_suffix(std::uint64_t number, std::uint64_t count) {
  return fmt::format("-{:05}-of-{:05}.gguf", number, count);
}

}  // namespace

Result<Gguf> Gguf::parse(std::span<const std::byte> bytes, std::string_view what) {
  GgufHeader header = AXON_TRY(parse_gguf_header(bytes, what));
  Gguf out;
  out.tensors_ = std::move(header.tensors);
  out.metadata_ = std::move(header.metadata);
  out.paths_.emplace_back(what);
  return out;
}

Result<Gguf::Metadata> Gguf::add_file(const std::string& path) {
  auto file = std::make_unique<MappedFile>(AXON_TRY(MappedFile::open(path)));
  GgufHeader header = AXON_TRY(parse_gguf_header(file->bytes(), path));
  file->drop(header.text);
  if (header.tensors.size() > gguf_limit::kTensors - tensors_.size()) {
    return make_error(ErrorCode::kUnsupported, "{}: more than {} tensors in all shards are not supported", path,
                      gguf_limit::kTensors);
  }
  for (GgufTensor& tensor : header.tensors) {
    tensor.shard = static_cast<std::uint32_t>(paths_.size());
    tensors_.push_back(std::move(tensor));
  }
  paths_.push_back(path);
  files_.push_back(std::move(file));
  return std::move(header.metadata);
}

Status Gguf::add_shards(const std::string& path, std::uint64_t count) {
  const std::string suffix = shard_suffix(1, count);
  if (!path.ends_with(suffix)) {
    return make_error(ErrorCode::kInvalidArgument, "{}: is the first of {} shards, so its name must end in {}", path,
                      count, suffix);
  }
  const std::string stem = path.substr(0, path.size() - suffix.size());
  for (std::uint64_t number = 2; number <= count; ++number) {
    const std::string shard = stem + shard_suffix(number, count);
    auto added = add_file(shard);
    if (!added.ok()) {
      if (added.error().code != ErrorCode::kNotFound) return added.error();
      return make_error(ErrorCode::kNotFound, "{} (shard {} of {}, as {} says)", added.error().message, number, count,
                        path);
    }
    const Metadata metadata = std::move(added).value();
    const std::uint64_t its_count = AXON_TRY(whole_or(metadata, kSplitCount, 1, shard));
    const std::uint64_t its_number = AXON_TRY(whole_or(metadata, kSplitNumber, 0, shard));
    if (its_count == count && its_number == number - 1) continue;
    return make_error(ErrorCode::kCorrupt, "{}: split.no and split.count: expected {} and {}, got {} and {}", shard,
                      number - 1, count, its_number, its_count);
  }
  return Ok{};
}

Status Gguf::check_names() const {
  std::vector<const GgufTensor*> order;
  order.reserve(tensors_.size());
  for (const GgufTensor& tensor : tensors_) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->name < b->name; });
  for (std::size_t i = 1; i < order.size(); ++i) {
    if (order[i - 1]->name != order[i]->name) continue;
    return make_error(ErrorCode::kCorrupt, "tensor {} is both in {} and in {}", quoted(order[i]->name),
                      paths_[std::min(order[i - 1]->shard, order[i]->shard)],
                      paths_[std::max(order[i - 1]->shard, order[i]->shard)]);
  }
  return Ok{};
}

Result<Gguf> Gguf::open(const std::string& path) {
  Gguf out;
  out.metadata_ = AXON_TRY(out.add_file(path));
  const std::uint64_t count = AXON_TRY(whole_or(out.metadata_, kSplitCount, 1, path));
  const std::uint64_t number = AXON_TRY(whole_or(out.metadata_, kSplitNumber, 0, path));
  if (count <= 1 && number == 0) return out;
  if (count > gguf_limit::kShards || number >= count) {
    return make_error(ErrorCode::kCorrupt, "{}: split.no and split.count: {} of {}: expected at most {} shards", path,
                      number, count, gguf_limit::kShards);
  }
  if (number != 0) {
    return make_error(ErrorCode::kInvalidArgument, "{}: is shard {} of {}: give the first, whose name ends in {}", path,
                      number + 1, count, shard_suffix(1, count));
  }
  AXON_TRY(out.add_shards(path, count));
  const std::uint64_t expected = AXON_TRY(whole_or(out.metadata_, "split.tensors.count", out.tensors_.size(), path));
  if (expected != out.tensors_.size()) {
    return make_error(ErrorCode::kCorrupt, "{}: split.tensors.count is {}, but the {} shards have {} tensors", path,
                      expected, count, out.tensors_.size());
  }
  AXON_TRY(out.check_names());
  return out;
}

const GgufValue* Gguf::find(std::string_view key) const {
  const auto found = metadata_.find(key);
  return found == metadata_.end() ? nullptr : &found->second;
}

const GgufTensor* Gguf::find_tensor(std::string_view name) const {
  const auto found =
      std::find_if(tensors_.begin(), tensors_.end(), [&](const GgufTensor& t) { return t.name == name; });
  return found == tensors_.end() ? nullptr : &*found;
}

}  // namespace axon
