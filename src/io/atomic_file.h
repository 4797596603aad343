#pragma once
// Files and folders that appear whole or not at all: written under a temporary name, flushed, then renamed.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace axon {

// What to do with what stands under the name already: models are never written over, reports are.
enum class Existing { kRefuse, kReplace };

// A file that stands under its name only after finish(). Destroying it before removes the temporary. Movable.
class AtomicFile {
 public:
  // Creates `path`.tmp-<pid> beside `path`. kInvalidArgument "<path> already exists" (with kReplace only for what is no
  // regular file); kIo or kNotFound with the reason.
  static Result<AtomicFile> create(const std::string& path, Existing existing = Existing::kRefuse);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  // Appends. kIo with path and reason; then every later call answers kIo too.
  Status write(std::span<const std::byte> bytes);
  // The same at a place of its own; what is never written reads as zeros.
  Status write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  Status write(std::string_view text) { return write(std::as_bytes(std::span(text))); }
  // Flushes the file, renames it, flushes the folder. With kRefuse, never replaces a file that came up meanwhile
  // (kInvalidArgument).
  Status finish();

  const std::string& path() const { return path_; }

 private:
  AtomicFile() = default;
  Error failure(std::string_view action);
  void start_writeback();

  std::string path_, temporary_;
  Existing existing_ = Existing::kRefuse;
  int fd_ = -1;
  bool failed_ = false;
  std::uint64_t written_ = 0;
  std::uint64_t queued_ = 0;  // bytes that the system was told to start writing out
};

// A folder that stands under its name only after finish(). Destroying it before removes it and all that is in it.
class AtomicDirectory {
 public:
  // Creates `path`.tmp-<pid>; the parent must exist. kInvalidArgument "<path> already exists" (with kReplace only for
  // what is no folder); kIo or kNotFound.
  static Result<AtomicDirectory> create(const std::string& path, Existing existing = Existing::kRefuse);
  AtomicDirectory(AtomicDirectory&& other) noexcept
      : final_(std::move(other.final_)), temporary_(std::exchange(other.temporary_, {})), existing_(other.existing_) {}
  AtomicDirectory& operator=(AtomicDirectory&&) = delete;
  ~AtomicDirectory();

  // Where to put files until finish(), and the name that the folder will have.
  const std::string& path() const { return temporary_; }
  const std::string& final_path() const { return final_; }
  // Flushes the folder, renames it, flushes its parent. The files in it must have been flushed (AtomicFile does). With
  // kReplace the two folders change places in one step, where the file system can, and the older one is removed.
  Status finish();

 private:
  AtomicDirectory() = default;
  Status replace();
  std::string final_, temporary_;
  Existing existing_ = Existing::kRefuse;
};

// Removes from `folder` what processes that have ended left half-written: every "<name>.tmp-<pid>" whose name begins
// with `prefix`. Processes are looked for on this machine alone. kIo names what cannot be removed.
Status remove_leftovers(const std::string& folder, std::string_view prefix);

// A whole file, through AtomicFile.
Status write_file(const std::string& path, std::string_view text, Existing existing = Existing::kRefuse);

// The contents of a file that is expected to be small. kCorrupt when it has more than `max_bytes`; kNotFound, kIo.
Result<std::string> read_small_file(const std::string& path, std::uint64_t max_bytes);

}  // namespace axon
