#pragma once
// metrics.jsonl: written a line at a time while a training runs, read for its report, cut when a training is resumed.

#include <functional>
#include <string>
#include <utility>

#include "train/metrics_line.h"

namespace axon::train {

// Lines at the end of a file. Each is there for other processes when write() returns, and after sync() also for the
// next start of the machine.
class MetricsFile {
 public:
  // A file of its own, empty: kInvalidArgument when something stands under `path`.
  static Result<MetricsFile> create(const std::string& path);
  // Goes on after step `step`: lines of later steps, and one that was torn off, are dropped, and what is left appears
  // whole or not at all. Without a file, begins one. kCorrupt names the line that cannot be read.
  //
  // So that nothing is lost or said twice, all lines of a step are written before its checkpoint.
  static Result<MetricsFile> resume(const std::string& path, std::uint64_t step);
  MetricsFile(MetricsFile&& other) noexcept : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
  MetricsFile& operator=(MetricsFile&& other) = delete;
  ~MetricsFile();

  const std::string& path() const { return path_; }
  // kIo with path and reason.
  Status write(const MetricsLine& line);
  Status sync();

 private:
  MetricsFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  static Result<MetricsFile> append(const std::string& path, int flags);
  std::string path_;
  int fd_ = -1;
};

// The lines in order, in the memory of one. A last line without its end, as a killed process leaves it, is passed over.
// kCorrupt with path and number of a line that cannot be read; kNotFound, kIo.
Status each_metrics(const std::string& path, const std::function<Status(const MetricsLine&)>& visit);

}  // namespace axon::train
