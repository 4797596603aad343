#include "model/weight_format.h"

#include "quant/affine.h"

namespace axon {

Result<WeightFormat> parse_weight_format(std::string_view text) {
  const auto floats = [](DType t) { return WeightFormat{.kind = WeightFormat::kFloat, .dtype = t}; };
  if (text == "keep") return WeightFormat{};
  if (text == "f32" || text == "fp32") return floats(DType::kF32);
  if (text == "f16" || text == "fp16") return floats(DType::kF16);
  if (text == "bf16") return floats(DType::kBF16);
  if (text.size() >= 2 && text[0] == 'q') {
    WeightFormat format{.kind = WeightFormat::kAffine, .bits = text[1] - '0'};
    const std::string_view group = text.substr(2);
    if (group == "g32") format.group_size = 32;
    if (group == "g128") format.group_size = 128;
    if (affine::valid_bits(format.bits) && (group.empty() || group == "g32" || group == "g64" || group == "g128")) {
      return format;
    }
  }
  return make_error(
      ErrorCode::kInvalidArgument,
      "unknown precision {}: expected keep, f32, f16, bf16, or q2, q3, q4, q5, q6, q8 (with a group size: q4g32)",
      text);
}

std::string to_string(const WeightFormat& format) {
  switch (format.kind) {
    case WeightFormat::kKeep: return "keep";
    case WeightFormat::kFloat:
      return format.dtype == DType::kF32 ? "f32" : format.dtype == DType::kF16 ? "f16" : "bf16";
    case WeightFormat::kAffine:
      return format.group_size == 64 ? fmt::format("q{}", format.bits)
                                     : fmt::format("q{}g{}", format.bits, format.group_size);
  }
  return "?";
}

}  // namespace axon
