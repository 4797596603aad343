#pragma once
// Composed GGUF files for tests: the header is written field by field, the data is all zeros (and need not be stored).

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "io/gguf.h"
#include "io/test_files.h"

namespace axon::testing_files {

template <class T>
std::string le(T value) {
  std::string out(sizeof(T), '\0');
  __builtin_memcpy(out.data(), &value, sizeof(T));
  return out;
}
inline std::string gguf_text(std::string_view text) { return le(std::uint64_t{text.size()}) + std::string(text); }

class GgufFile {
 public:
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;

  // An entry whose value is given as the format lays it out.
  GgufFile& raw(std::string_view key, GgufValueType type, std::string_view value) {
    ++entries_;
    metadata_ += gguf_text(key) + le(static_cast<std::uint32_t>(type)) + std::string(value);
    return *this;
  }
  GgufFile& u32(std::string_view key, std::uint32_t value) { return raw(key, GgufValueType::kU32, le(value)); }
  GgufFile& text(std::string_view key, std::string_view value) {
    return raw(key, GgufValueType::kText, gguf_text(value));
  }
  template <class T>
  GgufFile& array(std::string_view key, GgufValueType type, const std::vector<T>& values) {
    std::string all = le(static_cast<std::uint32_t>(type)) + le(std::uint64_t{values.size()});
    for (const T& value : values) all += le(value);
    return raw(key, GgufValueType::kArray, all);
  }
  GgufFile& texts(std::string_view key, std::size_t count) {
    std::string all = le(static_cast<std::uint32_t>(GgufValueType::kText)) + le(std::uint64_t{count});
    for (std::size_t i = 0; i < count; ++i) all += gguf_text("t");
    return raw(key, GgufValueType::kArray, all);
  }
  GgufFile& tensor(std::string_view name, const std::vector<std::uint64_t>& dims, std::string_view type = "F32") {
    const GgmlType* known = ggml_type(type);
    AXON_CHECK(known != nullptr);
    std::uint64_t elements = 1;
    for (const std::uint64_t dim : dims) elements *= dim;
    data_ = round_up(data_, alignment);
    tensor_raw(name, dims, known->id, data_);
    data_ += known->bytes(elements).value();
    return *this;
  }
  GgufFile& tensor_raw(std::string_view name, const std::vector<std::uint64_t>& dims, std::uint32_t type,
                       std::uint64_t offset) {
    ++count_;
    tensors_ += gguf_text(name) + le(static_cast<std::uint32_t>(dims.size()));
    for (const std::uint64_t dim : dims) tensors_ += le(dim);
    tensors_ += le(type) + le(offset);
    return *this;
  }

  std::string header() const { return "GGUF" + le(version) + le(count_) + le(entries_) + metadata_ + tensors_; }
  // Up to the last tensor's end.
  std::uint64_t size() const { return round_up(header().size(), alignment) + data_; }
  std::string bytes() const {
    std::string out = header();
    out.resize(std::max<std::size_t>(out.size(), size()));
    return out;
  }
  // As a file with a hole for its data, so that whole models cost nothing.
  void write(const std::string& path) const {
    put(path, header());
    std::filesystem::resize_file(path, std::max<std::uint64_t>(header().size(), size()));
  }

 private:
  std::string metadata_, tensors_;
  std::uint64_t entries_ = 0, count_ = 0, data_ = 0;
};

}  // namespace axon::testing_files
