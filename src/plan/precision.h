#pragma once
// Precisions of weights and of the KV cache, with the bytes that they truly take: scales, biases and block tails count.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"

namespace axon {

// Values in blocks of one size.
struct Precision {
  std::string name;                // "bf16", "q4", "nf4", "ternary", "q4_k"
  std::uint64_t block_values = 1;  // values in a block; a row ends with a whole block, unless they run across rows
  std::uint64_t block_bytes = 2;
  std::string what;          // "4 bits, groups of 64 with scale and bias in half precision"
  bool across_rows = false;  // only the tensor ends with a whole block

  double bits() const { return 8.0 * static_cast<double>(block_bytes) / static_cast<double>(block_values); }
  // No value when it passes 64 bits.
  std::optional<std::uint64_t> bytes(std::uint64_t rows, std::uint64_t cols) const;
};

// Ours and other programs', in falling size; GGUF's block types follow.
const std::vector<Precision>& precisions();
// "fp32", "f32", "bf16", "fp16", "f16", "fp8", "q8", "q4g32", "nf4", "fp4", "mxfp4", "nvfp4", "ternary", "Q4_K", ...
// kInvalidArgument lists the names.
Result<Precision> parse_precision(std::string_view text);

// How keys and values are held. The TurboQuant layouts keep the newest tokens in int8 and the rest in codes; bytes are
// for one key and one value vector of one head (arXiv 2504.19874; docs/turboquant.md has the layouts).
struct KvFormat {
  std::string name;    // "fp16", "fp32", "q8", "q4", "tq4", "tq3.5", "tq3", "lm3"
  Precision plain;     // block formats: the row of all heads' keys (or values) of a token
  bool codes = false;  // TurboQuant: the fields below instead of `plain`
  std::uint64_t key_code_bits_x2 = 0, value_code_bits_x2 = 0;  // twice the bits a value: 7 is 3.5
  std::uint64_t scale_bytes = 0;                               // of each vector
  std::uint64_t tail_tokens = 0;                               // newest tokens, int8 with a half-precision scale
  std::string what;
};
const std::vector<KvFormat>& kv_formats();
Result<KvFormat> parse_kv_format(std::string_view text);  // also "f16", "f32"

// Bytes of `tokens` keys and values of one layer, as other programs hold them; our own engine's q8 is
// turboquant::int8_layout(). No value when it passes 64 bits.
std::optional<std::uint64_t> kv_bytes(const KvFormat& format, std::uint64_t kv_heads, std::uint64_t key_dim,
                                      std::uint64_t value_dim, std::uint64_t tokens);

}  // namespace axon
