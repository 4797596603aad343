#include "train/data_lines.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace axon::train {
namespace {

constexpr std::size_t kBlock = 256 * 1024;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// Cuts a file that comes in blocks into lines.
class Cutter {
 public:
  explicit Cutter(const std::function<Status(const Line&)>& visit) : visit_(visit) { line_.number = 1; }

  Status block(std::string_view block) {
    while (!block.empty()) {
      const std::size_t end = block.find('\n');
      if (end == std::string_view::npos) return hold(block), Ok{};
      AXON_TRY(line(block.substr(0, end)));
      read_ += 1;
      line_.offset = read_;
      ++line_.number;
      block.remove_prefix(end + 1);
    }
    return Ok{};
  }
  Status last() { return read_ == line_.offset ? Status(Ok{}) : line({}); }

 private:
  // Keeps the start of a line whose end is in a later block.
  void hold(std::string_view part) {
    read_ += part.size();
    line_.too_long = line_.too_long || held_.size() + part.size() > kMaxLine.count;
    if (line_.too_long)
      held_.clear();
    else
      held_ += part;
  }
  Status line(std::string_view end) {
    if (held_.empty() && !line_.too_long && end.size() <= kMaxLine.count) {
      line_.text = end;
      read_ += end.size();
    } else {
      hold(end);
      line_.text = held_;
    }
    Line out = line_;
    if (out.text.ends_with('\r')) out.text.remove_suffix(1);
    if (out.number == 1 && out.text.starts_with(kByteOrderMark)) {
      out.text.remove_prefix(kByteOrderMark.size());
      out.offset += kByteOrderMark.size();
    }
    AXON_TRY(visit_(out));
    held_.clear();
    line_.too_long = false;
    return Ok{};
  }

  const std::function<Status(const Line&)>& visit_;
  Line line_;
  std::string held_;
  std::uint64_t read_ = 0;  // bytes up to here
};

}  // namespace

Result<LineFile> LineFile::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a FIFO must not keep us waiting
  if (fd < 0) {
    const ErrorCode code = errno == ENOENT || errno == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kIo;
    return make_error(code, "{}: {}", path, std::strerror(errno));
  }
  LineFile file(path, fd, 0);
  struct stat info {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    return make_error(ErrorCode::kIo, "{}: not a regular file", path);
  }
  file.size_ = static_cast<std::uint64_t>(info.st_size);
  return file;
}

LineFile::~LineFile() {
  if (fd_ >= 0) ::close(fd_);
}

Status LineFile::read(std::uint64_t offset, std::size_t bytes, std::string& out) const {
  out.resize(bytes);
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t got = pread(fd_, out.data() + done, bytes - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return make_error(ErrorCode::kIo, "{}: {}", path_, std::strerror(errno));
    if (got == 0) return make_error(ErrorCode::kCorrupt, "{}: has become shorter since it was opened", path_);
    done += static_cast<std::size_t>(got);
  }
  return Ok{};
}

Result<std::uint64_t> LineFile::count() const {
  std::string block;
  std::uint64_t lines = 0;
  for (std::uint64_t at = 0; at < size_; at += block.size()) {
    AXON_TRY(read(at, std::min<std::uint64_t>(kBlock, size_ - at), block));
    lines += static_cast<std::uint64_t>(std::count(block.begin(), block.end(), '\n'));
  }
  return lines + (!block.empty() && block.back() != '\n' ? 1u : 0u);
}

Status LineFile::each(const std::function<Status(const Line&)>& visit) const {
  Cutter cutter(visit);
  std::string block;
  for (std::uint64_t at = 0; at < size_; at += block.size()) {
    AXON_TRY(read(at, std::min<std::uint64_t>(kBlock, size_ - at), block));
    AXON_TRY(cutter.block(block));
  }
  return cutter.last();
}

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

}  // namespace axon::train
