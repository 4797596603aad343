#include "plan/precision.h"

#include <algorithm>
#include <cctype>

#include "io/gguf_types.h"
#include "quant/affine.h"
#include "quant/turboquant_layout.h"

namespace axon {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

// Codes, and a scale and a bias in half precision for each group (quant/affine.h).
Precision affine_precision(std::uint64_t bits, std::uint64_t group, std::string name) {
  return {.name = std::move(name),
          .block_values = group,
          .block_bytes = group * bits / 8 + 4,
          .what = fmt::format("{} bits in groups of {}, each with scale and bias in half precision", bits, group)};
}

std::vector<Precision> make_precisions() {
  std::vector<Precision> out = {
      {"fp32", 1, 4, "IEEE single precision"},
      {"bf16", 1, 2, "bfloat16"},
      {"fp16", 1, 2, "IEEE half precision"},
      {"fp8", 1, 1, "E4M3 or E5M2; a scale a tensor is not counted"},
  };
  for (const std::uint64_t bits : {8u, 6u, 5u, 4u, 3u, 2u}) {
    out.push_back(affine_precision(bits, 64, fmt::format("q{}", bits)));
    if (bits == 5) out.push_back({"nvfp4", 16, 9, "E2M1 with an E4M3 scale for each 16 values"});
    if (bits == 4) {
      out.push_back({"mxfp4", 32, 17, "E2M1 with an E8M0 scale for each 32 values (OCP MX 1.0)"});
      // 64 codes and a scale in 8 bits; 256 scales share a float32 scale and offset (arXiv 2305.14314, section 3).
      out.push_back({"nf4", 16384, 8192 + 256 + 8, "NormalFloat, blocks of 64, double quantisation (QLoRA)", true});
      out.push_back({"fp4", 2, 1, "4 bits and nothing else, as back-of-envelope sums have it: no real format"});
    }
    if (bits == 2) out.push_back({"ternary", 256, 54, "-1, 0, 1: five in a byte, a half-precision scale for each 256"});
  }
  std::stable_sort(out.begin(), out.end(), [](const Precision& a, const Precision& b) { return a.bits() > b.bits(); });
  for (const GgmlType& type : ggml_types()) {
    const std::string name = lower(type.name);
    const bool integer = name.starts_with('i') && name.size() > 1 && std::isdigit(static_cast<unsigned char>(name[1]));
    const bool taken = std::any_of(out.begin(), out.end(), [&](const Precision& p) { return p.name == name; });
    if (integer || taken || name == "f64" || name == "f32" || name == "f16") continue;
    out.push_back({name, type.block_values, type.block_bytes, fmt::format("GGUF's {}", type.name)});
  }
  return out;
}

std::vector<KvFormat> make_kv_formats() {
  const auto plain = [](std::string name, std::uint64_t values, std::uint64_t bytes, std::string what) {
    KvFormat format;
    format.name = name;
    format.plain = {name, values, bytes, what};
    format.what = std::move(what);
    return format;
  };
  const auto codes = [](std::string name, std::uint64_t key_x2, std::uint64_t value_x2, std::uint64_t scale,
                        std::string what) {
    KvFormat format;
    format.name = std::move(name);
    format.codes = true;
    format.key_code_bits_x2 = key_x2;
    format.value_code_bits_x2 = value_x2;
    format.scale_bytes = scale;
    format.tail_tokens = turboquant::find_layout(format.name)->tail_tokens;
    format.what = std::move(what);
    return format;
  };
  return {plain("fp32", 1, 4, "IEEE single precision"),
          plain("fp16", 1, 2, "IEEE half precision"),
          plain("fp8", 1, 1, "E4M3 or E5M2; a scale a tensor is not counted"),
          plain("q8", 32, 34,
                "int8, a half-precision scale for each vector of a head; other families: each 32 values (Q8_0)"),
          plain("q4", 32, 18, "4 bits with a half-precision scale for each 32 values (ggml's Q4_0)"),
          plain("fp4", 2, 1, "4 bits and nothing else, as back-of-envelope sums have it: no real format"),
          codes("tq4", 8, 8, 2, "TurboQuant: trellis codes, keys and values 4 bits, newest 40 tokens int8"),
          codes("tq3.5", 7, 6, 2, "TurboQuant: trellis codes, keys 3.5 and values 3 bits, newest 32 tokens int8"),
          codes("tq3", 6, 4, 1, "TurboQuant: trellis codes, keys 3 and values 2 bits, newest 40 tokens int8"),
          codes("lm3", 6, 4, 1, "the paper's scalar codes, keys 3 and values 2 bits, newest 40 tokens int8")};
}

template <class Named>
std::string names_of(const std::vector<Named>& list) {
  std::string out;
  for (const Named& item : list) out += (out.empty() ? "" : ", ") + item.name;
  return out;
}

// a * b + c, a value that stays empty once it overflowed.
std::optional<std::uint64_t> mul(std::optional<std::uint64_t> a, std::uint64_t b) {
  return a ? checked_mul(*a, b) : std::nullopt;
}
std::optional<std::uint64_t> add(std::optional<std::uint64_t> a, std::optional<std::uint64_t> b) {
  return a && b ? checked_add(*a, *b) : std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> Precision::bytes(std::uint64_t rows, std::uint64_t cols) const {
  const auto blocks = [&](std::uint64_t values) { return values / block_values + (values % block_values != 0); };
  if (!across_rows) return mul(checked_mul(blocks(cols), block_bytes), rows);
  const auto values = checked_mul(rows, cols);
  return values ? checked_mul(blocks(*values), block_bytes) : std::nullopt;
}

const std::vector<Precision>& precisions() {
  static const std::vector<Precision> list = make_precisions();
  return list;
}

Result<Precision> parse_precision(std::string_view text) {
  std::string name = lower(text);
  if (name == "f32") name = "fp32";
  if (name == "f16") name = "fp16";
  if (name == "int8") name = "q8";
  if (name == "int4") name = "q4";
  for (const Precision& p : precisions()) {
    if (p.name == name) return p;
  }
  if (name.size() >= 4 && name[0] == 'q' && name[2] == 'g' && affine::valid_bits(name[1] - '0')) {
    for (const std::uint64_t group : {32u, 64u, 128u}) {
      if (name.substr(3) == fmt::format("{}", group)) {
        return affine_precision(static_cast<std::uint64_t>(name[1] - '0'), group, name);
      }
    }
  }
  return make_error(ErrorCode::kInvalidArgument, "unknown precision \"{}\": there are keep, {}", text,
                    names_of(precisions()));
}

const std::vector<KvFormat>& kv_formats() {
  static const std::vector<KvFormat> list = make_kv_formats();
  return list;
}

Result<KvFormat> parse_kv_format(std::string_view text) {
  std::string name = lower(text);
  if (name == "f32") name = "fp32";
  if (name == "f16" || name == "bf16") name = "fp16";
  if (name == "q8_0") name = "q8";
  if (name == "q4_0") name = "q4";
  for (const KvFormat& format : kv_formats()) {
    if (format.name == name) return format;
  }
  return make_error(ErrorCode::kInvalidArgument, "unknown KV format \"{}\": there are {}", text,
                    names_of(kv_formats()));
}

std::optional<std::uint64_t> kv_bytes(const KvFormat& format, std::uint64_t kv_heads, std::uint64_t key_dim,
                                      std::uint64_t value_dim, std::uint64_t tokens) {
  if (!format.codes) {
    const auto keys = checked_mul(kv_heads, key_dim), values = checked_mul(kv_heads, value_dim);
    if (!keys || !values) return std::nullopt;
    return add(format.plain.bytes(tokens, *keys), format.plain.bytes(tokens, *values));
  }
  // The codec's layout, with vectors filled up to a head_dim that it takes.
  const std::uint64_t filled = round_up(std::min<std::uint64_t>(key_dim, 1u << 20), 16);
  if (key_dim == value_dim && turboquant::supports_head_dim(filled) && tokens != 0) {
    const turboquant::Layout* layout = turboquant::find_layout(format.name);
    AXON_CHECK(layout != nullptr);
    Result<turboquant::HeadPlan> head = turboquant::plan_head(*layout, filled, tokens);
    if (!head.ok()) return std::nullopt;
    return checked_mul(head.value().bytes.count, kv_heads);
  }
  const auto code = [](std::uint64_t bits_x2, std::uint64_t dim) -> std::optional<std::uint64_t> {
    const auto bits = checked_mul(bits_x2, dim);
    return bits ? std::optional(*bits / 16 + (*bits % 16 != 0)) : std::nullopt;
  };
  const auto scales = [&](std::uint64_t dim) { return dim == 0 ? 0 : format.scale_bytes; };  // a latent has no values
  const auto pair = add(add(code(format.key_code_bits_x2, key_dim), code(format.value_code_bits_x2, value_dim)),
                        scales(key_dim) + scales(value_dim));
  const auto tail_pair = add(add(key_dim, value_dim), std::uint64_t{2} * (key_dim != 0) + 2 * (value_dim != 0));
  const std::uint64_t tail = std::min(tokens, format.tail_tokens);
  return mul(add(mul(pair, tokens - tail), mul(tail_pair, tail)), kv_heads);
}

}  // namespace axon
