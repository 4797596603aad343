#include "model/fingerprint.h"

#include <algorithm>

#include "base/random.h"

namespace axon {
namespace {

constexpr std::size_t kSampleBytes = 64;

class Hash {
 public:
  void add(std::string_view text) { state_ = mix64(state_ ^ mix64(hash64(text) + 0x9E3779B97F4A7C15ull)); }
  void add(std::span<const std::byte> bytes) {
    add(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }
  std::uint64_t value() const { return state_; }

 private:
  std::uint64_t state_ = hash64("bit-axon model 1");
};

}  // namespace

std::string fingerprint(const Config& config, const Safetensors& tensors, std::string_view precision) {
  Config function = config;
  function.max_seq_len = function.swa_window_size = function.ssm_scan_step = 0;
  Hash hash;
  hash.add(to_json(function));
  hash.add(precision);
  for (const auto& [name, tensor] : tensors.tensors()) {
    hash.add(name);
    hash.add(fmt::format("{} {}", name_of(tensor.dtype), to_string(tensor.shape)));
    const std::size_t size = std::min(kSampleBytes, tensor.bytes.size()), last = tensor.bytes.size() - size;
    for (const std::size_t at : {std::size_t{0}, last / 2, last}) hash.add(tensor.bytes.subspan(at, size));
    if (tensor.file != nullptr) tensor.file->drop(tensor.bytes);
  }
  return fmt::format("{:016x}", hash.value());
}

}  // namespace axon
