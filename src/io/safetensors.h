#pragma once
// safetensors files (github.com/huggingface/safetensors): 8 bytes little-endian header length, JSON header, data.
// Reading maps the file and checks every header field before anything is believed; writing goes to a temporary name
// and is renamed at the end, so a half-written file never stands under the real one.

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "io/atomic_file.h"
#include "memory/mapped_file.h"
#include "tensor/dtype.h"

namespace axon {

// What one file may ask of us. They keep the memory that a header makes us allocate within the file's size plus some
// 12 MiB: a tensor's record costs 160 bytes, and the shortest JSON for one is 50.
namespace safetensors_limit {
inline constexpr std::uint64_t kHeaderBytes = 100'000'000;  // the format's own limit
inline constexpr std::size_t kTensors = 65'536;
inline constexpr std::size_t kMetadataEntries = 4'096;
}  // namespace safetensors_limit

// Dimensions, at most kMaxRank of them; a scalar has rank 0. The product is known to fit 64 bits.
class Shape {
 public:
  static constexpr std::size_t kMaxRank = 6;
  Shape() = default;
  Shape(std::initializer_list<std::uint64_t> dims);  // at most kMaxRank, the product must fit
  // kInvalidArgument when there are too many dimensions or the product overflows.
  static Result<Shape> create(std::span<const std::uint64_t> dims);
  std::span<const std::uint64_t> dims() const { return {dims_.data(), rank_}; }
  std::size_t rank() const { return rank_; }
  std::uint64_t operator[](std::size_t i) const { return dims_[i]; }
  std::uint64_t elements() const;
  bool operator==(const Shape& other) const;

 private:
  std::array<std::uint64_t, kMaxRank> dims_{};
  std::size_t rank_ = 0;
};
std::string to_string(const Shape& shape);  // "[2560, 64]"

// One tensor of a file, after every check.
struct TensorView {
  DType dtype = DType::kF32;
  Shape shape;
  std::span<const std::byte> bytes;  // inside the mapping, at any alignment; exactly packed_bytes(dtype, elements)
  const MappedFile* file = nullptr;
};

// What a tensor to be written is called and looks like; its bytes follow in the same order.
struct TensorHeader {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
};

// The tensors of one file, or of all shards of a model. Movable; views stay valid as long as it lives. Opening reads
// headers only: no page of a data section is touched.
class Safetensors {
 public:
  using Tensors = std::map<std::string, TensorView, std::less<>>;
  using Metadata = std::map<std::string, std::string, std::less<>>;

  // `path`: a .safetensors file; or a directory with model.safetensors.index.json, or with *.safetensors files (read in
  // lexical order; a name that comes twice is an error that names both files; names that start with a dot are left
  // out). Of a metadata key that several files have, the first file's value counts. kNotFound: no such path, shard, or
  // no safetensors file at all. kUnsupported: a dtype, rank or count beyond what we hold. kCorrupt: the bytes
  // contradict the format. kIo: the system's reason.
  static Result<Safetensors> open(const std::string& path);
  // Parses one file's bytes; for tests and the fuzzer. The bytes must outlive the result. `what` names them in
  // messages.
  static Result<Safetensors> parse(std::span<const std::byte> bytes, std::string_view what);

  // A file that nobody has written: the header that SafetensorsWriter would write, parsed by the same code. Takes
  // address space of the file's size but no memory; the data reads as zeros. For planning what a file will take.
  static Result<Safetensors> unwritten(const std::vector<TensorHeader>& tensors, std::string_view what);

  // Null when there is no such tensor.
  const TensorView* find(std::string_view name) const;
  const Tensors& tensors() const { return tensors_; }
  const Metadata& metadata() const { return metadata_; }
  const std::vector<std::string>& paths() const { return paths_; }

 private:
  static Result<Safetensors> open_files(const std::string& folder, const std::vector<std::string>& names);
  Status add_file(const std::string& path);

  Tensors tensors_;
  Metadata metadata_;
  std::vector<std::string> paths_;
  std::vector<std::unique_ptr<MappedFile>> files_;
};

// Writes tensors in the order in which they were announced, in pieces of any size. Data starts 64-byte aligned and so
// does every tensor whose predecessors' sizes allow it without holes (put large ones first). Movable.
class SafetensorsWriter {
 public:
  // Creates `path`.tmp-<pid> beside `path` and writes the header. kInvalidArgument as AtomicFile::create when `path`
  // exists, and for a tensor list that the reader would refuse (a doubled or non-UTF-8 name, too many, sizes that
  // overflow).
  static Result<SafetensorsWriter> create(const std::string& path, const std::vector<TensorHeader>& tensors,
                                          const std::map<std::string, std::string>& metadata,
                                          Existing existing = Existing::kRefuse);

  // The next bytes of the data section, not more than were announced. kIo with path and reason ("No space left on
  // device"). Destroying an unfinished writer removes the temporary file.
  Status write(std::span<const std::byte> bytes);
  // Bytes of tensor `index` from `offset` on, in any order; each byte once.
  Status write_at(std::size_t index, std::uint64_t offset, std::span<const std::byte> bytes);
  // All bytes must have come. Flushes to disk, then renames.
  Status finish();

 private:
  SafetensorsWriter(AtomicFile file, std::uint64_t expected) : file_(std::move(file)), expected_(expected) {}
  AtomicFile file_;
  std::vector<std::uint64_t> begins_;  // of each tensor in the file, and the end of the last
  std::uint64_t expected_ = 0;
  std::uint64_t written_ = 0;
};

}  // namespace axon
