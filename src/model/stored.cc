#include "model/stored.h"

#include <algorithm>
#include <bit>

#include "quant/affine.h"

namespace axon {
namespace {

bool aligned_to(std::span<const std::byte> bytes, std::size_t alignment) {
  return reinterpret_cast<std::uintptr_t>(bytes.data()) % alignment == 0;
}

Error misshapen(const std::string& name, const Shape& expected, const TensorView& came) {
  return make_error(ErrorCode::kCorrupt, "tensor {}: expected shape {}, but the file has {} ({})", name,
                    to_string(expected), to_string(came.shape), name_of(came.dtype));
}

// The leading dimensions of `shape` with another last one.
Result<Shape> with_cols(const Shape& shape, std::uint64_t cols) {
  std::vector<std::uint64_t> dims(shape.dims().begin(), shape.dims().end());
  dims.back() = cols;
  return Shape::create(dims);
}

// Codes, scales and biases: neither bits nor group size is written anywhere, so both follow from the shapes.
Result<StoredTensor> quantised(const TensorSpec& spec, const TensorView& codes, const Safetensors& file,
                               std::set<std::string, std::less<>>& used) {
  const std::string scales_name = spec.name + ".scales";
  const TensorView& scales = *file.find(scales_name);
  std::string biases_name = spec.name + ".biases";
  if (file.find(biases_name) == nullptr) biases_name = spec.name + ".biases_quant";
  const TensorView* biases = file.find(biases_name);
  if (biases == nullptr) {
    return make_error(ErrorCode::kCorrupt, "tensor {0}.biases is missing (also looked for {0}.biases_quant)",
                      spec.name);
  }
  if (codes.dtype != DType::kU32 || codes.shape.rank() != spec.shape.rank()) {
    return make_error(ErrorCode::kCorrupt,
                      "tensor {}: has scales, so packed U32 codes of {} were expected, but the file has {} {}",
                      spec.full_name(), to_string(spec.shape), name_of(codes.dtype), to_string(codes.shape));
  }
  const std::uint64_t cols = spec.cols(), packed = codes.shape[codes.shape.rank() - 1];
  const std::uint64_t bits = packed * 32 / cols;
  if (packed * 32 % cols != 0 || bits > 8 || !affine::valid_bits(static_cast<int>(bits)) ||
      codes.shape != AXON_TRY(with_cols(spec.shape, packed))) {
    return make_error(ErrorCode::kCorrupt,
                      "tensor {}: expected {} packed at 2, 3, 4, 5, 6 or 8 bits, but the file has U32 {}",
                      spec.full_name(), to_string(spec.shape), to_string(codes.shape));
  }
  const std::uint64_t groups = scales.shape.rank() == 0 ? 0 : scales.shape[scales.shape.rank() - 1];
  const std::uint64_t group_size = groups == 0 ? 0 : cols / groups;
  if (groups == 0 || group_size * groups != cols || group_size > 128 ||
      !affine::valid_group_size(static_cast<int>(group_size)) ||
      scales.shape != AXON_TRY(with_cols(spec.shape, groups))) {
    return make_error(ErrorCode::kCorrupt,
                      "tensor {}: expected scales for groups of 32, 64 or 128 of {}, but the file has {}", scales_name,
                      to_string(spec.shape), to_string(scales.shape));
  }
  if (biases->shape != scales.shape) return misshapen(biases_name, scales.shape, *biases);
  if (!is_float(scales.dtype) || biases->dtype != scales.dtype) {
    return make_error(ErrorCode::kCorrupt,
                      "tensor {}: scales and biases must share one of F32, F16, BF16, but are {} and {}", spec.name,
                      name_of(scales.dtype), name_of(biases->dtype));
  }
  StoredTensor out{.dtype = DType::kU32, .parts = {codes.bytes, scales.bytes, biases->bytes}, .file = codes.file};
  out.affine = {
      .bits = static_cast<int>(bits), .group_size = static_cast<int>(group_size), .scale_dtype = scales.dtype};
  const std::size_t scale_size = size_of(scales.dtype);
  out.aligned =
      aligned_to(codes.bytes, 4) && aligned_to(scales.bytes, scale_size) && aligned_to(biases->bytes, scale_size);
  used.insert(scales_name);
  used.insert(biases_name);
  return out;
}

// Index of the first element whose exponent is all ones, or `count`. Plain loops over whole blocks: they vectorise.
template <class Word>
std::size_t first_non_finite(std::span<const std::byte> bytes, Word exponent) {
  const std::size_t count = bytes.size() / sizeof(Word);
  constexpr std::size_t kBlock = 1024;
  Word block[kBlock];
  for (std::size_t i = 0; i < count; i += kBlock) {
    const std::size_t n = std::min(kBlock, count - i);
    std::copy_n(bytes.data() + i * sizeof(Word), n * sizeof(Word), reinterpret_cast<std::byte*>(block));
    unsigned bad = 0;
    for (std::size_t j = 0; j < n; ++j) bad |= static_cast<unsigned>((block[j] & exponent) == exponent);
    if (bad == 0) continue;
    for (std::size_t j = 0; j < n; ++j) {
      if ((block[j] & exponent) == exponent) return i + j;
    }
  }
  return count;
}

std::size_t first_non_finite(DType dtype, std::span<const std::byte> bytes) {
  if (dtype == DType::kF32) return first_non_finite<std::uint32_t>(bytes, 0x7F800000u);
  return first_non_finite<std::uint16_t>(bytes, dtype == DType::kF16 ? 0x7C00u : 0x7F80u);
}

Status check_part_finite(const std::string& name, DType dtype, std::span<const std::byte> bytes,
                         const MappedFile* drop_from) {
  constexpr std::size_t kSlice = 4u << 20;
  for (std::size_t at = 0; at < bytes.size(); at += kSlice) {
    const auto slice = bytes.subspan(at, std::min(kSlice, bytes.size() - at));
    const std::size_t bad = first_non_finite(dtype, slice);
    if (bad != slice.size() / size_of(dtype)) {
      return make_error(ErrorCode::kCorrupt, "tensor {}: element {} is {}, expected finite values", name,
                        at / size_of(dtype) + bad, load_float(dtype, slice.data(), bad));
    }
    if (drop_from != nullptr) drop_from->drop(bytes.first(at + slice.size()));
  }
  return Ok{};
}

}  // namespace

Weight StoredTensor::weight(std::uint64_t rows, std::uint64_t cols) const {
  Weight w{.data = parts[0].data(), .rows = rows, .cols = cols, .dtype = dtype, .affine = affine};
  w.affine.scales = parts[1].data();
  w.affine.biases = parts[2].data();
  return w;
}

bool StoredTensor::has_form(DType other, const Affine& form) const {
  return dtype == other && affine.bits == form.bits && affine.group_size == form.group_size &&
         (affine.bits == 0 || affine.scale_dtype == form.scale_dtype);
}

Result<StoredTensor> find_stored(const TensorSpec& spec, const Safetensors& file,
                                 std::set<std::string, std::less<>>& used) {
  const std::string name = spec.full_name();
  const TensorView* tensor = file.find(name);
  if (tensor == nullptr) {
    if (spec.optional) return StoredTensor{};
    return make_error(ErrorCode::kCorrupt, "tensor {} is missing: expected {}", name, to_string(spec.shape));
  }
  used.insert(name);
  if (spec.is_matrix() && file.find(spec.name + ".scales") != nullptr) return quantised(spec, *tensor, file, used);
  if (tensor->shape != spec.shape) return misshapen(name, spec.shape, *tensor);
  if (!is_float(tensor->dtype)) {
    return make_error(ErrorCode::kCorrupt, "tensor {}: expected F32, F16 or BF16 values{}, but the file has {}", name,
                      tensor->dtype == DType::kU32 ? fmt::format(" (or {}.scales beside U32 codes)", spec.name) : "",
                      name_of(tensor->dtype));
  }
  StoredTensor out{.dtype = tensor->dtype, .parts = {tensor->bytes, {}, {}}, .file = tensor->file};
  out.aligned = aligned_to(tensor->bytes, size_of(tensor->dtype));
  return out;
}

Status check_all_used(const Safetensors& file, const std::set<std::string, std::less<>>& used) {
  for (const auto& [name, tensor] : file.tensors()) {
    if (!used.contains(name)) {
      return make_error(ErrorCode::kCorrupt, "tensor {} ({} {}) is unknown: the config has no place for it", name,
                        name_of(tensor.dtype), to_string(tensor.shape));
    }
  }
  return Ok{};
}

Status check_finite(const TensorSpec& spec, const StoredTensor& stored, bool keep_pages) {
  const MappedFile* drop = keep_pages ? nullptr : stored.file;
  if (stored.affine.bits == 0) return check_part_finite(spec.full_name(), stored.dtype, stored.parts[0], drop);
  AXON_TRY(check_part_finite(spec.name + ".scales", stored.affine.scale_dtype, stored.parts[1], drop));
  return check_part_finite(spec.name + ".biases", stored.affine.scale_dtype, stored.parts[2], drop);
}

std::array<std::uint64_t, 3> matrix_bytes(std::uint64_t rows, std::uint64_t cols, DType dtype, const Affine& affine) {
  const Weight w{.data = nullptr, .rows = rows, .cols = cols, .dtype = dtype, .affine = affine};
  const std::uint64_t scales = w.quantised() ? rows * w.groups() * size_of(affine.scale_dtype) : 0;
  return {rows * w.row_bytes(), scales, scales};
}

void apply_format(const TensorSpec& spec, const WeightFormat& want, DType& dtype, Affine& affine) {
  if (want.kind == WeightFormat::kKeep) return;
  if (want.kind == WeightFormat::kFloat) {
    dtype = want.dtype;
    affine = {};
    return;
  }
  if (spec.use == TensorUse::kRouter || spec.cols() % static_cast<std::uint64_t>(want.group_size) != 0) return;
  if (affine.bits == want.bits && affine.group_size == want.group_size) return;
  dtype = DType::kU32;
  affine = {.bits = want.bits, .group_size = want.group_size, .scale_dtype = kScaleDtype};
}

}  // namespace axon
