#include "io/safetensors.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/bytes.h"
#include "io/json.h"
#include "io/safetensors_header.h"
#include "io/safetensors_index.h"

namespace axon {

Shape::Shape(std::initializer_list<std::uint64_t> dims) {
  auto shape = create({dims.begin(), dims.size()});
  AXON_CHECK(shape.ok());
  *this = shape.value();
}

Result<Shape> Shape::create(std::span<const std::uint64_t> dims) {
  if (dims.size() > kMaxRank) {
    return make_error(ErrorCode::kInvalidArgument, "shape: {} dimensions, at most {} are supported", dims.size(),
                      kMaxRank);
  }
  Shape shape;
  std::uint64_t elements = 1;
  for (const std::uint64_t dim : dims) {
    const auto product = checked_mul(elements, dim);
    if (!product) {
      return make_error(ErrorCode::kInvalidArgument, "shape: the product of [{}] does not fit 64 bits",
                        fmt::join(dims, ", "));
    }
    elements = *product;
    shape.dims_[shape.rank_++] = dim;
  }
  return shape;
}

std::uint64_t Shape::elements() const {
  std::uint64_t product = 1;
  for (const std::uint64_t dim : dims()) product *= dim;
  return product;
}

bool Shape::operator==(const Shape& other) const { return std::ranges::equal(dims(), other.dims()); }

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape.dims(), ", ")); }

namespace {

// The names that end in .safetensors, in lexical order, without hidden ones.
Result<std::vector<std::string>> list_safetensors(const std::string& folder) {
  DIR* directory = opendir(folder.c_str());
  if (directory == nullptr) return make_error(ErrorCode::kIo, "{}: {}", folder, std::strerror(errno));
  std::vector<std::string> names;
  errno = 0;
  for (const dirent* entry = readdir(directory); entry != nullptr; entry = readdir(directory)) {
    const std::string_view name = entry->d_name;
    if (name.ends_with(".safetensors") && !name.starts_with('.')) names.emplace_back(name);
  }
  const int error = errno;
  closedir(directory);
  if (error != 0) return make_error(ErrorCode::kIo, "{}: {}", folder, std::strerror(error));
  std::sort(names.begin(), names.end());
  return names;
}

Status check_index(const SafetensorsIndex& index, const std::string& path, const Safetensors& found) {
  for (const auto& [name, view] : found.tensors()) {
    const auto entry = index.weight_map.find(name);
    if (entry == index.weight_map.end()) {
      return make_error(ErrorCode::kCorrupt, "{}: tensor {} is not in {}", view.file->path(), quoted(name), path);
    }
    const std::string& shard = index.shards[entry->second];
    if (!view.file->path().ends_with("/" + shard)) {
      return make_error(ErrorCode::kCorrupt, "{}: tensor {} is in {}, not in {}", path, quoted(name), view.file->path(),
                        shard);
    }
  }
  for (const auto& [name, shard] : index.weight_map) {
    if (found.find(name) != nullptr) continue;
    return make_error(ErrorCode::kCorrupt, "{}: tensor {} is not in its shard {}", path, quoted(name),
                      index.shards[shard]);
  }
  return Ok{};
}

}  // namespace

Result<Safetensors> Safetensors::parse(std::span<const std::byte> bytes, std::string_view what) {
  SafetensorsHeader header = AXON_TRY(parse_safetensors_header(bytes, what));
  Safetensors out;
  out.tensors_ = std::move(header.tensors);
  out.metadata_ = std::move(header.metadata);
  out.paths_.emplace_back(what);
  return out;
}

Status Safetensors::add_file(const std::string& path) {
  auto file = std::make_unique<MappedFile>(AXON_TRY(MappedFile::open(path)));
  SafetensorsHeader header = AXON_TRY(parse_safetensors_header(file->bytes(), path));
  file->drop(header.text);
  while (!header.tensors.empty()) {
    auto node = header.tensors.extract(header.tensors.begin());
    node.mapped().file = file.get();
    const auto inserted = tensors_.insert(std::move(node));
    if (!inserted.inserted) {
      return make_error(ErrorCode::kCorrupt, "tensor {} is both in {} and in {}", quoted(inserted.node.key()),
                        inserted.position->second.file->path(), path);
    }
  }
  metadata_.merge(header.metadata);
  paths_.push_back(path);
  files_.push_back(std::move(file));
  return Ok{};
}

Result<Safetensors> Safetensors::open_files(const std::string& folder, const std::vector<std::string>& names) {
  Safetensors out;
  for (const std::string& name : names) AXON_TRY(out.add_file(folder + "/" + name));
  return out;
}

Result<Safetensors> Safetensors::open(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    Safetensors out;
    AXON_TRY(out.add_file(path));
    return out;
  }
  const std::string index_path = path + "/" + std::string(kSafetensorsIndexName);
  if (lstat(index_path.c_str(), &info) == 0) {
    const SafetensorsIndex index = AXON_TRY(read_safetensors_index(index_path));
    for (const std::string& shard : index.shards) {
      if (stat((path + "/" + shard).c_str(), &info) == 0) continue;
      return make_error(ErrorCode::kNotFound, "{}/{}: {} (named by {})", path, shard, std::strerror(errno), index_path);
    }
    Safetensors out = AXON_TRY(open_files(path, index.shards));
    AXON_TRY(check_index(index, index_path, out));
    return out;
  }
  const std::vector<std::string> names = AXON_TRY(list_safetensors(path));
  if (names.empty()) {
    return make_error(ErrorCode::kNotFound, "{}: no weights: looked for {} and for *.safetensors", path,
                      kSafetensorsIndexName);
  }
  return open_files(path, names);
}

const TensorView* Safetensors::find(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

}  // namespace axon
