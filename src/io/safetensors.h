#pragma once
// safetensors files (github.com/huggingface/safetensors): 8 bytes little-endian header length, JSON header, data.
// Reading maps the file and checks every header field before anything is believed; writing goes to a temporary name
// and is renamed at the end, so a half-written file never stands under the real one.

#include <array>
#include <cstdint>
#include <cstdio>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "memory/mapped_file.h"
#include "tensor/dtype.h"

namespace axon {

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
  std::span<const std::byte> bytes;  // inside the mapping, at any alignment; exactly elements * size_of(dtype)
  const MappedFile* file = nullptr;
};

// The tensors of one file, or of all shards of a model. Movable; views stay valid as long as it lives.
class Safetensors {
 public:
  // `path`: a .safetensors file; or a directory with model.safetensors.index.json, or with *.safetensors files (read in
  // lexical order; a name that comes twice is an error that names both files).
  static Result<Safetensors> open(const std::string& path);
  // Parses one file's bytes; for tests and the fuzzer. The bytes must outlive the result.
  static Result<Safetensors> parse(std::span<const std::byte> bytes, std::string_view what);

  const TensorView* find(std::string_view name) const;
  const std::map<std::string, TensorView, std::less<>>& tensors() const { return tensors_; }
  const std::map<std::string, std::string, std::less<>>& metadata() const { return metadata_; }
  const std::vector<std::string>& paths() const { return paths_; }

 private:
  std::map<std::string, TensorView, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> metadata_;
  std::vector<std::string> paths_;
  std::vector<std::unique_ptr<MappedFile>> files_;
};

// What a tensor to be written is called and looks like; its bytes follow in the same order.
struct TensorHeader {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
};

// Writes tensors in the order in which they were announced, in pieces of any size. Data starts 64-byte aligned and so
// does every tensor whose predecessors' sizes allow it without holes (put large ones first).
class SafetensorsWriter {
 public:
  // Creates `path`.tmp-<pid> beside `path`; refuses when `path` exists (kInvalidArgument).
  static Result<SafetensorsWriter> create(const std::string& path, std::vector<TensorHeader> tensors,
                                          const std::map<std::string, std::string>& metadata);
  SafetensorsWriter(SafetensorsWriter&& other) noexcept;
  SafetensorsWriter& operator=(SafetensorsWriter&&) = delete;
  ~SafetensorsWriter();  // removes the temporary file unless finish() succeeded

  // The next bytes of the data section. kIo with the reason ("No space left on device").
  Status write(std::span<const std::byte> bytes);
  // All bytes must have come. Flushes to disk, then renames.
  Status finish();

 private:
  SafetensorsWriter() = default;
  std::string path_, temporary_;
  int fd_ = -1;
  std::uint64_t expected_ = 0, written_ = 0;
};

}  // namespace axon
