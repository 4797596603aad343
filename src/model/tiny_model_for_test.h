#pragma once
// For tests: a small model of random weights as a folder, any tensor of which can be replaced before it is written; and
// that model loaded, with the logits of every position.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "io/json.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/reference_device.h"
#include "model/adapters.h"
#include "model/model.h"
#include "model/model_files.h"
#include "quant/affine.h"

namespace axon::testing_model {

template <class T>
T ok(Result<T> result) {
  if (!result.ok()) {
    ADD_FAILURE() << result.error().message;
    std::abort();
  }
  return std::move(result).value();
}

class Folder {
 public:
  Folder() : path_(::testing::TempDir() + "axon-model-XXXXXX") { AXON_CHECK(mkdtemp(path_.data()) != nullptr); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  std::size_t entries() const {
    const std::filesystem::directory_iterator all(path_);
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
  }

 private:
  std::string path_;
};

// Six layers, two of each kind; a window that short texts cross many times.
inline Config tiny_config() {
  return {.vocab_size = 256,
          .hidden_dim = 64,
          .num_layers = 6,
          .num_heads = 4,
          .d_source_model = 64,
          .ssm_d_state = 4,
          .ssm_d_conv = 4,
          .ssm_expand = 2,
          .ssm_scan_step = 64,
          .swa_window_size = 8,
          .moe_num_experts = 4,
          .moe_top_k = 2,
          .moe_intermediate_dim = 64,
          .moe_shared_expert = true,
          .weight_tying = true,
          .max_seq_len = 65536,
          .rms_norm_eps = 1e-6};
}

struct FileTensor {
  DType dtype = DType::kF32;
  std::vector<std::uint64_t> dims;
  std::vector<std::byte> bytes;
};
using FileTensors = std::map<std::string, FileTensor>;

// Spread like trained weights: matrices pass the variance of their input on, nothing is exactly one or zero.
inline std::vector<float> values_of(const TensorSpec& spec, std::uint64_t seed) {
  const CounterRng rng(seed, hash64(spec.full_name()));
  std::vector<float> out(spec.shape.elements());
  for (std::size_t i = 0; i < out.size(); ++i) {
    switch (spec.init.kind) {
      case Init::kUniform: out[i] = rng.symmetric(i, static_cast<float>(spec.init.scale * std::sqrt(3.0))); break;
      case Init::kNormal: out[i] = rng.normal(i); break;
      case Init::kOnes: out[i] = 1.0f + 0.2f * rng.normal(i); break;
      case Init::kZeros: out[i] = 0.1f * rng.normal(i); break;
      case Init::kLogCount: out[i] = std::log(static_cast<float>(i % spec.cols() + 1)); break;
    }
  }
  return out;
}

inline FileTensor as_floats(const TensorSpec& spec, std::span<const float> values, DType dtype) {
  FileTensor out{dtype, {spec.shape.dims().begin(), spec.shape.dims().end()}, {}};
  out.bytes.resize(values.size() * size_of(dtype));
  for (std::size_t i = 0; i < values.size(); ++i) store_float(dtype, out.bytes.data(), i, values[i]);
  return out;
}

// Codes, scales and biases in place of the float tensor.
inline void put_quantised(FileTensors& tensors, const TensorSpec& spec, std::span<const float> values, int bits,
                          int group, DType scale_dtype, const std::string& biases = ".biases") {
  const std::size_t rows = spec.rows(), cols = spec.cols();
  const std::size_t code_bytes = cols * static_cast<std::size_t>(bits) / 8,
                    groups = cols / static_cast<std::size_t>(group);
  const std::size_t scale_bytes = groups * size_of(scale_dtype);
  std::vector<std::uint64_t> dims(spec.shape.dims().begin(), spec.shape.dims().end());
  FileTensor codes{DType::kU32, dims, std::vector<std::byte>(rows * code_bytes)};
  FileTensor scale{scale_dtype, dims, std::vector<std::byte>(rows * scale_bytes)};
  codes.dims.back() = code_bytes / 4;
  scale.dims.back() = groups;
  FileTensor bias = scale;
  for (std::size_t r = 0; r < rows; ++r) {
    affine::encode_row(values.subspan(r * cols, cols), bits, group, scale_dtype, codes.bytes.data() + r * code_bytes,
                       scale.bytes.data() + r * scale_bytes, bias.bytes.data() + r * scale_bytes);
  }
  tensors[spec.full_name()] = std::move(codes);
  tensors[spec.name + ".scales"] = std::move(scale);
  tensors[spec.name + biases] = std::move(bias);
}

// Matrices in `format` (kKeep: float32), the rest and the routers in float32. No lm_head when tied.
inline FileTensors tiny_tensors(const Config& config, std::uint64_t seed = 1, const WeightFormat& format = {}) {
  FileTensors out;
  for (const TensorSpec& spec : tensor_list(config)) {
    if (spec.optional) continue;
    const std::vector<float> values = values_of(spec, seed);
    const bool matrix = spec.is_matrix() && spec.use != TensorUse::kRouter;
    if (matrix && format.kind == WeightFormat::kAffine) {
      put_quantised(out, spec, values, format.bits, format.group_size, kScaleDtype);
    } else {
      out[spec.full_name()] =
          as_floats(spec, values, matrix && format.kind == WeightFormat::kFloat ? format.dtype : DType::kF32);
    }
  }
  return out;
}

// A safetensors file. Its data section begins `shift` bytes past a multiple of 64, as an unpadded header leaves it.
inline std::string file_of(const FileTensors& tensors, std::size_t shift = 0) {
  std::string header = "{", data;
  for (const auto& [name, tensor] : tensors) {
    std::string dims;
    for (const std::uint64_t d : tensor.dims) dims += fmt::format("{}{}", dims.empty() ? "" : ",", d);
    header +=
        fmt::format(R"({}{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", header.size() > 1 ? "," : "",
                    json_quote(name), name_of(tensor.dtype), dims, data.size(), data.size() + tensor.bytes.size());
    data.append(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
  }
  header += "}";
  while ((8 + header.size()) % 64 != shift) header += ' ';
  std::string out(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) out[i] = static_cast<char>(header.size() >> (8 * i) & 0xFF);
  return out + header + data;
}

inline void put_file(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline void put_model(const Folder& folder, const Config& config, const FileTensors& tensors, std::size_t shift = 0) {
  put_file(folder / "config.json", to_json(config));
  put_file(folder / "model.safetensors", file_of(tensors, shift));
}

// Token ids below `vocab`, without a pattern.
inline std::vector<std::uint32_t> some_ids(std::size_t count, std::uint64_t vocab = 256, std::uint64_t seed = 7) {
  const CounterRng rng(seed);
  std::vector<std::uint32_t> ids;
  for (std::size_t i = 0; i < count; ++i) ids.push_back(static_cast<std::uint32_t>(rng.bits(i) % vocab));
  return ids;
}

class LoadedModel {
 public:
  static constexpr std::size_t kTokensMax = 256;  // in one piece

  explicit LoadedModel(const std::string& folder, Arithmetic arithmetic = Arithmetic::kExact,
                       const WeightFormat& want = {}, std::size_t threads = 1)
      : arithmetic_(arithmetic) {
    ModelFiles files = ok(open_model(folder));
    const Config config = files.config;
    const std::size_t widest = std::max(
        {config.ssm_intermediate_dim(), config.hidden_dim, config.d_source_model, config.moe_intermediate_dim});
    device_ = ok(cpu::CpuDevice::create(ledger_,
                                        {.x_elements_max = kTokensMax * widest,
                                         .rows_of_x_max = kTokensMax,
                                         .cols_max = 2 * widest,  // B of an adapter is [R, out]
                                         .bf16_cols_max = widest,
                                         .head_dim_max = config.head_dim(),
                                         .states_max = config.ssm_d_state,
                                         .transposed_rows_max = 64},
                                        threads, arithmetic));
    plan_ = ok(plan_weights(config, files.tensors, want, threads));
    model_.emplace(ok(Model::load(config, std::move(files.tensors), plan_, weights_ledger_, device_->pool())));
  }

  const Model& model() const { return *model_; }
  const WeightsPlan& plan() const { return plan_; }
  const Ledger& weights_ledger() const { return weights_ledger_; }
  cpu::CpuDevice& device() { return *device_; }

  // From here on with these, which must outlive it.
  void attach(AdapterSet& adapters) {
    adapters.attach(*model_, device_->pool(), /*fresh=*/false);
    needs_ = adapters.shape().needs();
  }

  // Logits of every position [ids, V], fed in pieces of these sizes (the last one is repeated), from the empty state.
  std::vector<float> logits(std::span<const std::uint32_t> ids, const std::vector<std::size_t>& pieces) {
    return logits(*device_, ids, pieces);
  }
  std::vector<float> logits(Device& device, std::span<const std::uint32_t> ids,
                            const std::vector<std::size_t>& pieces) {
    const Config& config = model_->config();
    Ledger ledger(1_GiB);
    SequenceState state = ok(SequenceState::create(ledger, state_shapes(config, ids.size()),
                                                   arithmetic_ == Arithmetic::kExact ? DType::kF32 : DType::kF16));
    Carver measure;
    ModelWorkspace(measure, kTokensMax, config, needs_);
    const Arena arena = ok(Arena::create(ledger, account::kWorkspace, measure.peak()));
    Carver carver = arena.carver();
    ModelWorkspace workspace(carver, kTokensMax, config, needs_);
    std::vector<float> out(ids.size() * config.vocab_size);
    for (std::size_t at = 0, piece = 0; at < ids.size(); ++piece) {
      const std::size_t n = std::min(pieces[std::min(piece, pieces.size() - 1)], ids.size() - at);
      model_->forward(device, ids.subspan(at, n), state, workspace);
      model_->head(device, workspace, 0, {out.data() + at * config.vocab_size, n, config.vocab_size});
      at += n;
    }
    return out;
  }

 private:
  Arithmetic arithmetic_;
  Ledger ledger_{1_GiB}, weights_ledger_{1_GiB};
  std::unique_ptr<cpu::CpuDevice> device_;
  WeightsPlan plan_;
  std::optional<Model> model_;
  AdapterNeeds needs_;
};

// The largest difference, in units of the largest expected value; infinite when anything is not finite.
inline double difference(std::span<const float> came, std::span<const float> expected) {
  EXPECT_EQ(came.size(), expected.size());
  double most = 0, scale = 0;
  for (std::size_t i = 0; i < std::min(came.size(), expected.size()); ++i) {
    if (!std::isfinite(came[i]) || !std::isfinite(expected[i])) return HUGE_VAL;
    most = std::max(most, std::fabs(double{came[i]} - double{expected[i]}));
    scale = std::max(scale, std::fabs(double{expected[i]}));
  }
  return scale == 0 ? HUGE_VAL : most / scale;
}

}  // namespace axon::testing_model
