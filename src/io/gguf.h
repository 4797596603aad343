#pragma once
// GGUF files (ggml's docs/gguf.md), versions 2 and 3: magic, metadata, the list of tensors, then their data. Reading
// maps the file, looks at the header alone, and checks each field before it is believed.

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"
#include "io/gguf_types.h"
#include "memory/mapped_file.h"

namespace axon {

// What one file may ask of us. They keep the memory that a header makes us allocate within the file's size plus some
// 16 MiB: a tensor's record costs 96 bytes and its name, and the shortest entry for one is 24; a number of an array
// becomes 8.
namespace gguf_limit {
inline constexpr std::size_t kTensors = 65'536;  // of all shards together
inline constexpr std::size_t kMetadataEntries = 4'096;
inline constexpr std::size_t kNameBytes = 65'535;      // of a key (the format's own limit) or a tensor's name
inline constexpr std::size_t kTextBytes = 65'536;      // longer texts are skipped
inline constexpr std::size_t kArrayNumbers = 4'096;    // longer arrays are skipped
inline constexpr std::size_t kAllNumbers = 1u << 17;   // in all arrays that are kept
inline constexpr std::uint64_t kAlignment = 1u << 20;  // the largest
inline constexpr std::size_t kShards = 4'096;
}  // namespace gguf_limit

// How a value of the metadata is written.
enum class GgufValueType : std::uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kText,
  kArray,
  kU64,
  kI64,
  kF64
};
std::string_view name_of(GgufValueType type);  // "UINT8", ..., "STRING", "ARRAY", as the format's document has them

// A value of the metadata: whole numbers, reals, truth values, texts, and arrays of numbers as they are; of a longer
// array, an array of texts or a very long text only how much there was.
class GgufValue {
 public:
  // An array of `count` elements of `type`, or (`array` false) a text of `count` bytes.
  struct Skipped {
    GgufValueType type = GgufValueType::kText;
    std::uint64_t count = 0;
    bool array = true;
  };
  using Unsigned = std::vector<std::uint64_t>;  // of arrays of truth values too: 0 and 1
  using Signed = std::vector<std::int64_t>;
  using Reals = std::vector<double>;
  using Data = std::variant<std::uint64_t, std::int64_t, double, bool, std::string, Unsigned, Signed, Reals, Skipped>;

  GgufValue() = default;
  explicit GgufValue(Data data) : data_(std::move(data)) {}

  // Null when the value is of another kind.
  template <class T>
  const T* get() const {
    return std::get_if<T>(&data_);
  }
  // A whole number from 0, whether written as signed or not.
  std::optional<std::uint64_t> whole() const;
  // Each element of an array of whole numbers from 0; no value for anything else.
  std::optional<std::vector<std::uint64_t>> wholes() const;
  // How many elements an array has, kept or skipped.
  std::optional<std::uint64_t> array_size() const;
  // For messages: "the number 3", "an array of 32000 STRING".
  std::string brief() const;

 private:
  Data data_;
};

// One tensor of a file, after every check.
struct GgufTensor {
  static constexpr std::size_t kMaxRank = 4;
  std::string name;
  const GgmlType* type = nullptr;
  std::uint32_t rank = 0;
  std::uint32_t shard = 0;                               // index into paths()
  std::array<std::uint64_t, kMaxRank> dims{1, 1, 1, 1};  // fastest first: a matrix [rows, cols] is {cols, rows, 1, 1}
  std::span<const std::byte> bytes;                      // inside the mapping, at any alignment
  std::uint64_t elements() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
};

// The header of one file or of all shards of a model. Movable; views stay valid as long as it lives. No page of a data
// section is touched.
class Gguf {
 public:
  using Tensors = std::vector<GgufTensor>;
  using Metadata = std::map<std::string, GgufValue, std::less<>>;

  // `path`: a file; of a model in shards (split.count) the first, the others stand beside it under the names that
  // llama.cpp gives them: NAME-00002-of-00003.gguf. kNotFound: no such file or shard. kUnsupported: version 1,
  // big-endian files, unknown tensor types, arrays of arrays, more than gguf_limit allows. kInvalidArgument: a shard
  // that is not the first. kCorrupt: the bytes contradict the format. kIo: the system's reason.
  static Result<Gguf> open(const std::string& path);
  // Parses one file's bytes, shards or not; for tests and the fuzzer. The bytes must outlive the result. `what` names
  // them in messages.
  static Result<Gguf> parse(std::span<const std::byte> bytes, std::string_view what);

  // Null when there is no such key (in the first shard) or tensor.
  const GgufValue* find(std::string_view key) const;
  const GgufTensor* find_tensor(std::string_view name) const;
  const Metadata& metadata() const { return metadata_; }
  const Tensors& tensors() const { return tensors_; }  // in the files' order, no name twice
  const std::vector<std::string>& paths() const { return paths_; }

 private:
  Result<Metadata> add_file(const std::string& path);
  Status add_shards(const std::string& path, std::uint64_t count);
  Status check_names() const;

  Tensors tensors_;
  Metadata metadata_;
  std::vector<std::string> paths_;
  std::vector<std::unique_ptr<MappedFile>> files_;
};

}  // namespace axon
