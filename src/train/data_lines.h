#pragma once
// Lines of a text file that may be larger than memory: read in order once, later by place.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"

namespace axon::train {

inline constexpr Bytes kMaxLine{16u << 20};

// A line without its "\n" or "\r\n", and without the byte order mark at the start of a file.
struct Line {
  std::uint64_t offset = 0;  // of `text` in the file
  std::uint64_t number = 0;  // from 1
  std::string_view text;     // lives until the next line
  bool too_long = false;     // longer than kMaxLine; `text` is empty then
};

class LineFile {
 public:
  // kNotFound or kIo with the path.
  static Result<LineFile> open(const std::string& path);
  LineFile(LineFile&& other) noexcept
      : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}
  LineFile& operator=(LineFile&& other) = delete;
  ~LineFile();

  const std::string& path() const { return path_; }
  Bytes size() const { return {size_}; }
  // Number of lines, the last with or without its end. Reads the file once.
  Result<std::uint64_t> count() const;
  // Every line in order, in memory of one block and the longest line, until `visit` returns an error.
  Status each(const std::function<Status(const Line&)>& visit) const;
  // `bytes` bytes at `offset`, into `out`. kCorrupt when the file has become shorter.
  Status read(std::uint64_t offset, std::size_t bytes, std::string& out) const;

 private:
  LineFile(std::string path, int fd, std::uint64_t size) : path_(std::move(path)), fd_(fd), size_(size) {}
  std::string path_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
};

// Nothing but spaces, tabs and carriage returns.
bool is_blank(std::string_view line);

}  // namespace axon::train
