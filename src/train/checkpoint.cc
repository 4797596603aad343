#include "train/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <vector>

#include "io/atomic_file.h"
#include "io/safetensors.h"

namespace axon::train {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-";
constexpr const char* kFile = "state.safetensors";
constexpr const char* kFormat = "bit-axon training state 1";

std::string folder_name(std::uint64_t step) { return fmt::format("{}{:08}", kPrefix, step); }

// Only of names that a checkpoint has: others' files and folders may stand beside.
constexpr std::size_t kPiece = std::size_t{1} << 20;

std::optional<std::uint64_t> step_of(const std::string& name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::uint64_t step = 0;
  const char* const end = name.data() + name.size();
  const auto [at, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (error != std::errc() || at != end || name != folder_name(step)) return std::nullopt;
  return step;
}

// What can be listed: other processes may be at work in the folder.
std::vector<fs::path> entries_of(const std::string& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    paths.push_back(at->path());
  }
  return paths;
}

std::vector<std::uint64_t> steps_in(const std::string& folder) {
  std::vector<std::uint64_t> steps;
  for (const fs::path& path : entries_of(folder)) {
    std::error_code error;
    const auto step = step_of(path.filename().string());
    if (step && fs::is_directory(path, error)) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

struct Named {
  const char* name;
  std::span<float> values;
};
std::vector<Named> named(const CheckpointArrays& a) {
  std::vector<Named> list = {
      {"values", a.values}, {"first_moments", a.first_moments}, {"second_moments", a.second_moments}};
  if (!a.gradients.empty()) list.push_back({"gradients", a.gradients});
  return list;
}

// Under a temporary name first: a process that is killed meanwhile leaves no half of a checkpoint.
void remove_checkpoint(const std::string& path) {
  std::error_code error;
  const std::string leaving = path + ".tmp-removed";
  fs::rename(path, leaving, error);
  if (!error) fs::remove_all(leaving, error);
}

}  // namespace

Result<Checkpoints> Checkpoints::open(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return make_error(ErrorCode::kIo, "{}: cannot be made: {}", folder, error.message());
  for (const fs::path& path : entries_of(folder)) {
    const std::string name = path.filename().string();
    if (name.starts_with(kPrefix) && name.find(".tmp-") != std::string::npos) fs::remove_all(path, error);
  }
  return Checkpoints(folder);
}

std::optional<std::uint64_t> Checkpoints::latest() const {
  const std::vector<std::uint64_t> steps = steps_in(folder_);
  return steps.empty() ? std::nullopt : std::optional(steps.back());
}

std::string Checkpoints::path_of(std::uint64_t step) const { return fmt::format("{}/{}", folder_, folder_name(step)); }

Status Checkpoints::save(std::uint64_t step, const CheckpointArrays& arrays, const CheckpointNumbers& numbers,
                         std::uint64_t keep, const std::function<Status(const std::string&)>& more) {
  std::error_code error;
  if (fs::exists(path_of(step), error)) return Ok{};  // of this very step: nothing has changed since
  AtomicDirectory directory = AXON_TRY(AtomicDirectory::create(path_of(step)));
  std::vector<TensorHeader> headers;
  for (const Named& array : named(arrays)) {
    TensorHeader header;
    header.name = array.name;
    header.dtype = DType::kF32;
    header.shape = Shape{array.values.size()};
    headers.push_back(std::move(header));
  }
  CheckpointNumbers metadata = numbers;
  metadata["format"] = kFormat;
  SafetensorsWriter writer = AXON_TRY(SafetensorsWriter::create(directory.path() + "/" + kFile, headers, metadata));
  for (const Named& array : named(arrays)) AXON_TRY(writer.write(std::as_bytes(array.values)));
  AXON_TRY(writer.finish());
  if (more) AXON_TRY(more(directory.path()));
  AXON_TRY(directory.finish());
  const std::vector<std::uint64_t> steps = steps_in(folder_);
  for (std::size_t i = 0; i + keep < steps.size(); ++i) remove_checkpoint(path_of(steps[i]));
  return Ok{};
}

Result<CheckpointNumbers> Checkpoints::numbers(std::uint64_t step) const {
  const std::string path = path_of(step) + "/" + kFile;
  const Safetensors file = AXON_TRY(Safetensors::open(path));
  CheckpointNumbers numbers(file.metadata().begin(), file.metadata().end());
  const auto format = numbers.find("format");
  if (format == numbers.end() || format->second != kFormat) {
    return make_error(ErrorCode::kCorrupt, "{}: expected the format \"{}\", came \"{}\"", path, kFormat,
                      format == numbers.end() ? "" : format->second);
  }
  return numbers;
}

Status Checkpoints::load(std::uint64_t step, const CheckpointArrays& arrays) const {
  const std::string path = path_of(step) + "/" + kFile;
  const Safetensors file = AXON_TRY(Safetensors::open(path));
  for (const Named& array : named(arrays)) {
    const TensorView* view = file.find(array.name);
    if (view == nullptr && std::string_view(array.name) == "gradients") {
      std::ranges::fill(array.values, 0.0f);
      continue;
    }
    const std::uint64_t came = view == nullptr ? 0 : view->shape.elements();
    if (view == nullptr || view->dtype != DType::kF32 || came != array.values.size()) {
      return make_error(ErrorCode::kCorrupt, "{}: tensor {} should have {} float32 values, but has {}{}", path,
                        array.name, array.values.size(), came,
                        view == nullptr || view->dtype == DType::kF32 ? "" : fmt::format(" {}", name_of(view->dtype)));
    }
    const auto to = std::as_writable_bytes(array.values);
    for (std::size_t at = 0; at < to.size(); at += kPiece) {  // its pages are not in the plan: they go at once
      const auto piece = view->bytes.subspan(at, std::min(kPiece, to.size() - at));
      std::ranges::copy(piece, to.begin() + static_cast<std::ptrdiff_t>(at));
      view->file->drop(piece);
    }
  }
  return Ok{};
}

std::string exact_text(double value) { return fmt::format("{:a}", value); }

Result<double> exact_double(const CheckpointNumbers& numbers, const std::string& key) {
  const auto found = numbers.find(key);
  if (found == numbers.end()) return make_error(ErrorCode::kCorrupt, "has no number \"{}\"", key);
  char* end = nullptr;
  const double value = std::strtod(found->second.c_str(), &end);
  if (end != found->second.c_str() + found->second.size() || found->second.empty()) {
    return make_error(ErrorCode::kCorrupt, "{} is no number: \"{}\"", key, found->second);
  }
  return value;
}

Result<std::uint64_t> exact_count(const CheckpointNumbers& numbers, const std::string& key) {
  const auto found = numbers.find(key);
  if (found == numbers.end()) return make_error(ErrorCode::kCorrupt, "has no number \"{}\"", key);
  std::uint64_t value = 0;
  const char* const end = found->second.data() + found->second.size();
  const auto [at, error] = std::from_chars(found->second.data(), end, value);
  if (error != std::errc() || at != end) {
    return make_error(ErrorCode::kCorrupt, "{} is no whole number: \"{}\"", key, found->second);
  }
  return value;
}

}  // namespace axon::train
