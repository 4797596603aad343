#include "io/safetensors_index.h"

#include <utility>

#include "io/json.h"
#include "io/safetensors_header.h"
#include "memory/mapped_file.h"

namespace axon {
namespace {

class IndexHandler : public JsonHandler {
 public:
  explicit IndexHandler(SafetensorsIndex& out) : out_(out) {}

  Status start_object() override {
    ++depth_;
    if (depth_ == 1 || (depth_ == 2 && section_ != Section::kNone) || section_ == Section::kMetadata) return Ok{};
    return unexpected("an object");
  }
  Status end_object() override {
    if (--depth_ == 1) section_ = Section::kNone;
    return Ok{};
  }
  Status start_array() override {
    ++depth_;
    return inside_metadata("an array");
  }
  Status end_array() override { return --depth_, Ok{}; }
  Status key(std::string_view text) override;
  Status string(std::string_view text) override;
  Status unsigned_integer(std::uint64_t) override { return inside_metadata("a number"); }
  Status negative_integer(std::int64_t) override { return inside_metadata("a number"); }
  Status real(double) override { return inside_metadata("a number"); }
  Status boolean(bool) override { return inside_metadata("a boolean"); }
  Status null() override { return inside_metadata("null"); }

  bool saw_weight_map() const { return saw_weight_map_; }

 private:
  enum class Section { kNone, kMetadata, kWeightMap };

  Status section_key(std::string_view text);
  Status inside_metadata(std::string_view got) const {
    if (section_ == Section::kMetadata && depth_ >= 2) return Ok{};
    return unexpected(got);
  }
  Status unexpected(std::string_view got) const {
    if (depth_ >= 2 && section_ == Section::kWeightMap) {
      return make_error(ErrorCode::kCorrupt, "weight_map: {}: expected a file name, got {}", quoted(tensor_), got);
    }
    return make_error(ErrorCode::kCorrupt, "expected objects \"metadata\" and \"weight_map\", got {}", got);
  }

  SafetensorsIndex& out_;
  std::map<std::string, std::size_t, std::less<>> shard_ids_;
  int depth_ = 0;
  Section section_ = Section::kNone;
  bool saw_metadata_ = false;
  bool saw_weight_map_ = false;
  std::string tensor_;
};

Status IndexHandler::section_key(std::string_view text) {
  const bool is_map = text == "weight_map";
  if (!is_map && text != "metadata") return unexpected(quoted(text));
  bool& seen = is_map ? saw_weight_map_ : saw_metadata_;
  if (seen) return make_error(ErrorCode::kCorrupt, "{} comes twice", text);
  seen = true;
  section_ = is_map ? Section::kWeightMap : Section::kMetadata;
  return Ok{};
}

Status IndexHandler::key(std::string_view text) {
  if (depth_ == 1) return section_key(text);
  if (section_ == Section::kWeightMap) tensor_ = text;
  return Ok{};
}

Status IndexHandler::string(std::string_view text) {
  if (section_ != Section::kWeightMap || depth_ != 2) return inside_metadata("a string");
  const bool plain = text.find('/') == std::string_view::npos && text.find('\0') == std::string_view::npos;
  if (!plain || !text.ends_with(".safetensors")) {
    return make_error(ErrorCode::kCorrupt, "weight_map: tensor {}: {} is not the plain name of a .safetensors file",
                      quoted(tensor_), quoted(text));
  }
  if (out_.weight_map.size() == safetensors_limit::kTensors) {
    return make_error(ErrorCode::kUnsupported, "weight_map: more than {} tensors are not supported",
                      safetensors_limit::kTensors);
  }
  const auto [shard, fresh] = shard_ids_.try_emplace(std::string(text), out_.shards.size());
  if (fresh) out_.shards.emplace_back(text);
  const auto [entry, inserted] = out_.weight_map.try_emplace(std::move(tensor_), shard->second);
  if (inserted) return Ok{};
  return make_error(ErrorCode::kCorrupt, "weight_map: tensor {} comes twice", quoted(entry->first));
}

}  // namespace

Result<SafetensorsIndex> read_safetensors_index(const std::string& path) {
  const MappedFile file = AXON_TRY(MappedFile::open(path));
  SafetensorsIndex out;
  IndexHandler handler(out);
  AXON_TRY(read_json(file.text(), path, handler));
  if (!handler.saw_weight_map()) return make_error(ErrorCode::kCorrupt, "{}: weight_map is missing", path);
  return out;
}

}  // namespace axon
