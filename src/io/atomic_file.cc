#include "io/atomic_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <vector>

namespace axon {
namespace {

// How much is written before the system is told to start on it: so the flush at the end finds little left to do.
constexpr std::uint64_t kWritebackStep = 8 << 20;

// Between an output's name and the number of the process that is writing it.
constexpr std::string_view kTemporary = ".tmp-";

Error system_error(const std::string& path, std::string_view action, int error) {
  ErrorCode code = ErrorCode::kIo;
  if (error == ENOENT || error == ENOTDIR) code = ErrorCode::kNotFound;
  return make_error(code, "{}: cannot {}: {}", path, action, std::strerror(error));
}

Error already_exists(const std::string& path) {
  return make_error(ErrorCode::kInvalidArgument, "{} already exists", path);
}

bool exists(const std::string& path) {
  struct stat info {};
  return lstat(path.c_str(), &info) == 0;
}

bool is_folder(const std::string& path) {
  struct stat info {};
  return lstat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

bool is_regular(const std::string& path) {
  struct stat info {};
  return lstat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

std::string parent_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Tries make(name) for "<path>.tmp-<pid>" and, where a crashed process left that behind, for names with a number more.
// make returns something negative and sets errno on failure.
template <class Make>
Result<std::string> make_temporary(const std::string& path, std::string_view action, bool refuse, int& made,
                                   Make make) {
  if (path.empty()) return make_error(ErrorCode::kInvalidArgument, "an output needs a name, not an empty one");
  if (refuse && exists(path)) return already_exists(path);
  const std::string base = fmt::format("{}{}{}", path, kTemporary, getpid());
  std::string name = base;
  for (int attempt = 1; attempt <= 100; ++attempt) {
    made = make(name.c_str());
    if (made >= 0) return name;
    if (errno != EEXIST) break;
    name = fmt::format("{}-{}", base, attempt);
  }
  return system_error(path, action, errno);
}

int sync_folder(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno;
  int error = fsync(fd) == 0 ? 0 : errno;
  if (error == EINVAL || error == ENOTSUP) error = 0;  // a file system that cannot flush folders
  ::close(fd);
  return error;
}

// Like rename(2), but fails with EEXIST rather than replace. Where the file system has no such rename, the check
// comes first and a race is possible.
int rename_new(const std::string& from, const std::string& to) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
  if (exists(to)) return EEXIST;
  return std::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
}

Status publish(const std::string& from, const std::string& to, Existing existing) {
  const auto replace = [&] { return std::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno; };
  const int error = existing == Existing::kReplace ? replace() : rename_new(from, to);
  if (error == EEXIST) return already_exists(to);
  if (error != 0) return system_error(to, "rename the finished output", error);
  return Ok{};
}

Status sync_parent(const std::string& path) {
  const int error = sync_folder(parent_of(path));
  if (error != 0) return system_error(path, "flush the folder", error);
  return Ok{};
}

}  // namespace

Result<AtomicFile> AtomicFile::create(const std::string& path, Existing existing) {
  AtomicFile file;
  file.path_ = path;
  file.existing_ = existing;
  if (existing == Existing::kReplace && exists(path) && !is_regular(path)) {
    return make_error(ErrorCode::kInvalidArgument, "{} already exists, and is no file that could be replaced", path);
  }
  const bool refuse = existing == Existing::kRefuse;
  file.temporary_ = AXON_TRY(make_temporary(path, "create it", refuse, file.fd_, [](const char* name) {
    return ::open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  }));
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      existing_(other.existing_),
      fd_(std::exchange(other.fd_, -1)),
      failed_(other.failed_),
      written_(other.written_),
      queued_(other.queued_) {}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

Error AtomicFile::failure(std::string_view action) {
  const int error = errno;
  failed_ = true;
  return make_error(ErrorCode::kIo, "{}: cannot {} after {} bytes: {}", path_, action, written_, std::strerror(error));
}

void AtomicFile::start_writeback() {
  if (written_ - queued_ < kWritebackStep) return;
  sync_file_range(fd_, static_cast<off_t>(queued_), static_cast<off_t>(written_ - queued_), SYNC_FILE_RANGE_WRITE);
  queued_ = written_;
}

Status AtomicFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  AXON_CHECK(fd_ >= 0);
  if (failed_) return make_error(ErrorCode::kIo, "{}: an earlier write failed", path_);
  while (!bytes.empty()) {
    const ssize_t done = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return failure("write");
    bytes = bytes.subspan(static_cast<std::size_t>(done));
    offset += static_cast<std::uint64_t>(done);
    written_ += static_cast<std::uint64_t>(done);
  }
  return Ok{};
}

Status AtomicFile::write(std::span<const std::byte> bytes) {
  AXON_CHECK(fd_ >= 0);
  if (failed_) return make_error(ErrorCode::kIo, "{}: an earlier write failed", path_);
  while (!bytes.empty()) {
    const ssize_t done = ::write(fd_, bytes.data(), std::min<std::size_t>(bytes.size(), kWritebackStep));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return failure("write");
    bytes = bytes.subspan(static_cast<std::size_t>(done));
    written_ += static_cast<std::uint64_t>(done);
    start_writeback();
  }
  return Ok{};
}

Status AtomicFile::finish() {
  AXON_CHECK(fd_ >= 0);
  if (failed_) return make_error(ErrorCode::kIo, "{}: an earlier write failed", path_);
  if (fsync(fd_) != 0) return failure("flush");
  if (::close(std::exchange(fd_, -1)) != 0) return failure("close");
  AXON_TRY(publish(temporary_, path_, existing_));
  temporary_.clear();
  return sync_parent(path_);
}

Result<AtomicDirectory> AtomicDirectory::create(const std::string& path, Existing existing) {
  AtomicDirectory directory;
  directory.final_ = path;
  directory.existing_ = existing;
  while (directory.final_.size() > 1 && directory.final_.back() == '/') directory.final_.pop_back();
  if (existing == Existing::kReplace && exists(directory.final_) && !is_folder(directory.final_)) {
    return make_error(ErrorCode::kInvalidArgument, "{} already exists, and is no folder that could be replaced", path);
  }
  int made = -1;
  const bool refuse = existing == Existing::kRefuse;
  directory.temporary_ = AXON_TRY(make_temporary(directory.final_, "create the folder", refuse, made,
                                                 [](const char* name) { return mkdir(name, 0777); }));
  return directory;
}

AtomicDirectory::~AtomicDirectory() {
  std::error_code ignored;
  if (!temporary_.empty()) std::filesystem::remove_all(temporary_, ignored);
}

Status AtomicDirectory::finish() {
  AXON_CHECK(!temporary_.empty());
  const int error = sync_folder(temporary_);
  if (error != 0) return system_error(final_, "flush the folder", error);
  if (existing_ == Existing::kReplace && exists(final_)) {
    AXON_TRY(replace());
  } else {
    AXON_TRY(publish(temporary_, final_, Existing::kRefuse));
    temporary_.clear();
  }
  return sync_parent(final_);
}

// The older folder ends under the temporary name, and goes.
Status AtomicDirectory::replace() {
  if (renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, final_.c_str(), RENAME_EXCHANGE) != 0) {
    if (errno != EINVAL && errno != ENOSYS) return system_error(final_, "replace the folder", errno);
    // Without an exchange there is a moment with neither; a crash then leaves both, the older one aside.
    const std::string aside = temporary_ + "-older";
    if (std::rename(final_.c_str(), aside.c_str()) != 0) return system_error(final_, "replace the folder", errno);
    if (std::rename(temporary_.c_str(), final_.c_str()) != 0) {
      const int error = errno;
      static_cast<void>(std::rename(aside.c_str(), final_.c_str()));
      return system_error(final_, "replace the folder", error);
    }
    temporary_ = aside;
  }
  std::error_code error;
  std::filesystem::remove_all(std::exchange(temporary_, {}), error);
  if (error) return system_error(final_, "remove the folder that was replaced", error.value());
  return Ok{};
}

namespace {

// The process that is writing "<name>.tmp-<pid>" or "<name>.tmp-<pid>-<number>"; 0 for any other name.
pid_t writer_of(std::string_view name) {
  const std::size_t at = name.rfind(kTemporary);
  if (at == std::string_view::npos || at == 0) return 0;
  const std::string_view tail = name.substr(at + kTemporary.size());
  pid_t pid = 0;
  const auto [end, error] = std::from_chars(tail.data(), tail.data() + tail.size(), pid);
  const std::string_view rest = tail.substr(static_cast<std::size_t>(end - tail.data()));
  const bool numbered =
      rest.size() > 1 && rest[0] == '-' && rest.find_first_not_of("0123456789", 1) == std::string_view::npos;
  return error == std::errc() && pid > 0 && (rest.empty() || numbered) ? pid : 0;
}

bool has_ended(pid_t pid) { return kill(pid, 0) != 0 && errno == ESRCH; }

}  // namespace

Status remove_leftovers(const std::string& folder, std::string_view prefix) {
  namespace fs = std::filesystem;
  std::error_code error;
  std::vector<fs::path> leftovers;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const pid_t writer = writer_of(name);
    if (name.starts_with(prefix) && writer != 0 && has_ended(writer)) leftovers.push_back(entry->path());
  }
  if (error) return system_error(folder, "list the folder", error.value());
  for (const fs::path& path : leftovers) {
    fs::remove_all(path, error);
    if (error) return system_error(path.string(), "remove what was left half-written", error.value());
  }
  return Ok{};
}

Status write_file(const std::string& path, std::string_view text, Existing existing) {
  AtomicFile file = AXON_TRY(AtomicFile::create(path, existing));
  AXON_TRY(file.write(text));
  return file.finish();
}

Result<std::string> read_small_file(const std::string& path, std::uint64_t max_bytes) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return system_error(path, "open", errno);
  struct stat info {};
  const bool regular = fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  std::string text;
  int error = 0;
  char buffer[1 << 14];
  while (regular && text.size() <= max_bytes) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got == 0) break;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      error = errno;
      break;
    }
    text.append(buffer, static_cast<std::size_t>(got));
  }
  ::close(fd);
  if (!regular) return make_error(ErrorCode::kIo, "{}: not a regular file", path);
  if (error != 0) return system_error(path, "read", error);
  if (text.size() > max_bytes) {
    return make_error(ErrorCode::kCorrupt, "{}: larger than the {} bytes that such a file may have", path, max_bytes);
  }
  return text;
}

}  // namespace axon
