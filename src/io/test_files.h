#pragma once
// What the tests of this folder share: a folder that removes itself, and files made of raw bytes.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace axon::testing_files {

class Folder {
 public:
  Folder() : path_(::testing::TempDir() + "axon-io-XXXXXX") { AXON_CHECK(mkdtemp(path_.data()) != nullptr); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }

  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }
  const std::string& path() const { return path_; }
  std::size_t entries() const {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) count += entry.path().empty() ? 0u : 1u;
    return count;
  }

 private:
  std::string path_;
};

inline void put(const std::string& path, std::string_view text) { std::ofstream(path, std::ios::binary) << text; }

inline std::string get(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A safetensors file: the length of `header`, `header`, and `data_size` bytes 0, 1, 2 ...
inline std::string make_file(std::string_view header, std::size_t data_size) {
  std::string out(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) out[i] = static_cast<char>(header.size() >> (8 * i) & 0xFF);
  out += header;
  for (std::size_t i = 0; i < data_size; ++i) out += static_cast<char>(i);
  return out;
}

inline std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

inline std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace axon::testing_files
