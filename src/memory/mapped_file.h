#pragma once
// A file mapped read-only. The mapping stays valid when the file is renamed or unlinked.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace axon {

class MappedFile {
 public:
  MappedFile() = default;
  // kNotFound or kIo, with the path in the message. An empty file maps to an empty span.
  static Result<MappedFile> open(const std::string& path);
  // Address space of `size` bytes that begins with `head` and goes on with zeros; only the head takes memory. `path`
  // names it in messages. kIo when the system has no such stretch of addresses.
  static Result<MappedFile> unwritten(const std::string& path, std::string_view head, std::size_t size);
  MappedFile(MappedFile&& other) noexcept
      : path_(std::move(other.path_)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

  // Drops the pages that lie wholly inside `range` from this process: they count no longer, and come back when read.
  void drop(std::span<const std::byte> range) const;
  // Reads the pages of `range`, so that no later use waits for them.
  void populate(std::span<const std::byte> range) const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace axon
