#include "train/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "io/atomic_file.h"
#include "train/data_lines.h"

namespace axon::train {
namespace {

Error failure(const std::string& path, std::string_view action) {
  const int error = errno;
  if (error == EEXIST) return make_error(ErrorCode::kInvalidArgument, "{} already exists", path);
  const ErrorCode code = error == ENOENT || error == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kIo;
  return make_error(code, "{}: cannot {}: {}", path, action, std::strerror(error));
}

using Visit = std::function<Status(std::string_view text, const MetricsLine& line)>;

// The last line counts only with its line break.
Status each_whole_line(const std::string& path, const Visit& visit) {
  const LineFile file = AXON_TRY(LineFile::open(path));
  const std::uint64_t size = file.size().count;
  return file.each([&](const Line& line) -> Status {
    if (line.too_long) return make_error(ErrorCode::kCorrupt, "{}: line {} is too long", path, line.number);
    if (line.offset + line.text.size() >= size) return Ok{};
    return visit(line.text, AXON_TRY(parse_metrics(line.text, fmt::format("{}: line {}", path, line.number))));
  });
}

}  // namespace

Result<MetricsFile> MetricsFile::append(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | flags, 0666);
  if (fd < 0) return failure(path, "open it");
  return MetricsFile(path, fd);
}

Result<MetricsFile> MetricsFile::create(const std::string& path) { return append(path, O_CREAT | O_EXCL); }

Result<MetricsFile> MetricsFile::resume(const std::string& path, std::uint64_t step) {
  AtomicFile kept = AXON_TRY(AtomicFile::create(path, Existing::kReplace));
  const Status read = each_whole_line(path, [&](std::string_view text, const MetricsLine& line) -> Status {
    if (step_of(line) > step) return Ok{};
    AXON_TRY(kept.write(text));
    return kept.write("\n");
  });
  if (!read.ok() && read.error().code == ErrorCode::kNotFound) return append(path, O_CREAT);
  if (!read.ok()) return read.error();
  AXON_TRY(kept.finish());
  return append(path, 0);
}

MetricsFile::~MetricsFile() {
  if (fd_ >= 0) ::close(fd_);
}

Status MetricsFile::write(const MetricsLine& line) {
  const std::string text = metrics_text(line) + "\n";
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t done = ::write(fd_, rest.data(), rest.size());
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return failure(path_, "write");
    rest.remove_prefix(static_cast<std::size_t>(done));
  }
  return Ok{};
}

Status MetricsFile::sync() {
  if (fsync(fd_) != 0 && errno != EINVAL) return failure(path_, "flush");  // EINVAL: a pipe, a terminal
  return Ok{};
}

Status each_metrics(const std::string& path, const std::function<Status(const MetricsLine&)>& visit) {
  return each_whole_line(path, [&](std::string_view, const MetricsLine& line) { return visit(line); });
}

}  // namespace axon::train
