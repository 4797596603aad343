// Composed headers of public models' GGUF files: what the file says must agree with what config.json says.

#include <gtest/gtest.h>

#include <functional>

#include "architectures/file_weights.h"
#include "architectures/gguf_tensors.h"
#include "io/gguf_file_for_test.h"

namespace axon {
namespace {

using namespace testing_files;
using Dims = std::vector<std::uint64_t>;

// Opens `file` as one on disk (with a hole for its data).
class OpenedGguf {
 public:
  explicit OpenedGguf(const GgufFile& file) {
    file.write(folder_ / "m.gguf");
    auto result = Gguf::open(folder_ / "m.gguf");
    EXPECT_TRUE(result.ok()) << result.error().message;
    if (result.ok()) gguf_ = std::move(result).value();
  }
  const Gguf& operator*() const { return gguf_; }

 private:
  Folder folder_;
  Gguf gguf_;
};

Architecture read(const GgufFile& file) {
  const OpenedGguf opened(file);
  auto result = gguf_architecture(*opened, "m.gguf");
  EXPECT_TRUE(result.ok()) << result.error().message;
  return result.ok() ? std::move(result).value() : Architecture{};
}

void expect_refused(const GgufFile& file, ErrorCode code, std::string_view part) {
  const OpenedGguf opened(file);
  const auto result = gguf_architecture(*opened, "m.gguf");
  ASSERT_FALSE(result.ok()) << part;
  EXPECT_EQ(result.error().code, code) << result.error().message;
  EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message << "\nnot: " << part;
}

const TensorGroup& group(const Architecture& model, std::string_view name) {
  static const TensorGroup none;
  for (const TensorGroup& g : model.tensors) {
    if (g.name == name) return g;
  }
  ADD_FAILURE() << "no group " << name;
  return none;
}

// As a config.json with the same numbers reads.
void expect_same_as_config(const Architecture& model, std::string_view config) {
  auto json = read_json_value(config, "config.json");
  ASSERT_TRUE(json.ok()) << json.error().message;
  auto result = read_architecture(json.value(), "config.json");
  ASSERT_TRUE(result.ok()) << result.error().message;
  const Architecture expected = std::move(result).value();
  EXPECT_EQ(model.parameters().total, expected.parameters().total);
  EXPECT_EQ(model.parameters().active, expected.parameters().active);
  EXPECT_EQ(model.widest_values, expected.widest_values);
  EXPECT_EQ(model.vocab_size, expected.vocab_size);
  EXPECT_EQ(model.hidden_size, expected.hidden_size);
  EXPECT_EQ(model.tied_head, expected.tied_head);
  ASSERT_EQ(model.layers.size(), expected.layers.size());
  for (std::size_t i = 0; i < model.layers.size(); ++i) {
    const LayerMemory &a = model.layers[i].memory, &b = expected.layers[i].memory;
    EXPECT_EQ(model.layers[i].kind, expected.layers[i].kind) << i;
    EXPECT_EQ(a.kv_heads, b.kv_heads) << i;
    EXPECT_EQ(a.key_dim, b.key_dim) << i;
    EXPECT_EQ(a.value_dim, b.value_dim) << i;
    EXPECT_EQ(a.latent_dim, b.latent_dim) << i;
    EXPECT_EQ(a.window, b.window) << i;
    EXPECT_EQ(a.state_values, b.state_values) << i;
    EXPECT_EQ(a.conv_values, b.conv_values) << i;
  }
}

struct Sizes {
  std::string_view family;
  std::uint32_t layers = 0, hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, inner = 0;
  std::uint64_t vocab = 0;
  bool tied = false;
};

GgufFile start(const Sizes& s, std::string_view embedding_type = "Q8_0") {
  GgufFile file;
  const auto key = [&](std::string_view name) { return fmt::format("{}.{}", s.family, name); };
  file.text("general.architecture", s.family).u32(key("block_count"), s.layers).u32(key("embedding_length"), s.hidden);
  file.u32(key("context_length"), 8192).u32(key("feed_forward_length"), s.inner);
  file.u32(key("attention.head_count"), s.heads);
  if (s.kv_heads != 0) file.u32(key("attention.head_count_kv"), s.kv_heads);
  file.tensor("token_embd.weight", {s.hidden, s.vocab}, embedding_type).tensor("output_norm.weight", {s.hidden});
  if (!s.tied) file.tensor("output.weight", {s.hidden, s.vocab}, embedding_type);
  return file;
}

using Add = std::function<void(std::string_view name, const Dims& dims, std::string_view type)>;
void each_layer(GgufFile& file, std::uint32_t layers, const std::function<void(const Add&, std::uint32_t)>& body) {
  for (std::uint32_t i = 0; i < layers; ++i) {
    body([&](std::string_view name, const Dims& dims,
             std::string_view type) { file.tensor(fmt::format("blk.{}.{}", i, name), dims, type); },
         i);
  }
}

void add_attention(const Add& add, const Sizes& s, std::string_view type) {
  add("attn_norm.weight", {s.hidden}, "F32");
  add("attn_q.weight", {s.hidden, s.heads * s.head_dim}, type);
  add("attn_k.weight", {s.hidden, s.kv_heads * s.head_dim}, type);
  add("attn_v.weight", {s.hidden, s.kv_heads * s.head_dim}, type);
  add("attn_output.weight", {s.heads * s.head_dim, s.hidden}, type);
}

void add_mlp(const Add& add, const Sizes& s, std::string_view type) {
  add("ffn_norm.weight", {s.hidden}, "F32");
  add("ffn_gate.weight", {s.hidden, s.inner}, type);
  add("ffn_up.weight", {s.hidden, s.inner}, type);
  add("ffn_down.weight", {s.inner, s.hidden}, type);
}

constexpr Sizes kLlama{.family = "llama",
                       .layers = 32,
                       .hidden = 4096,
                       .heads = 32,
                       .kv_heads = 8,
                       .head_dim = 128,
                       .inner = 14336,
                       .vocab = 128256};

GgufFile llama(const Sizes& s = kLlama) {
  GgufFile file = start(s, "Q4_K");
  each_layer(file, s.layers, [&](const Add& add, std::uint32_t) {
    add_attention(add, s, "Q4_K");
    add_mlp(add, s, "Q4_K");
  });
  return file;
}

TEST(GgufArchitecture, Llama) {
  const Architecture model = read(llama());
  EXPECT_EQ(model.family, "llama");
  EXPECT_EQ(model.name, "m.gguf");
  EXPECT_EQ(model.parameters().total, 8'030'261'248u);  // Llama 3.1 8B
  EXPECT_EQ(model.native_weights, "q4_k");
  EXPECT_EQ(model.context_max, 8192u);
  EXPECT_EQ(model.attention_layers(), 32u);
  const TensorGroup& up = group(model, "blk.*.ffn_up.weight");
  EXPECT_EQ(up.rows, 14336u);
  EXPECT_EQ(up.cols, 4096u);
  EXPECT_EQ(up.count, 32u);
  EXPECT_EQ(up.part, Part::kFeedForward);
  EXPECT_TRUE(up.matrix);
  EXPECT_FALSE(group(model, "blk.*.attn_norm.weight").matrix);
  EXPECT_EQ(group(model, "blk.*.attn_k.weight").part, Part::kAttention);
  EXPECT_EQ(model.widest_values, 2u * 4096 + 2 * 14336);
  expect_same_as_config(model, R"({"model_type": "llama", "vocab_size": 128256, "hidden_size": 4096,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
    "max_position_embeddings": 131072, "tie_word_embeddings": false})");
}

TEST(GgufArchitecture, Gemma2) {
  const Sizes s{.family = "gemma2",
                .layers = 26,
                .hidden = 2304,
                .heads = 8,
                .kv_heads = 4,
                .head_dim = 256,
                .inner = 9216,
                .vocab = 256000,
                .tied = true};
  GgufFile file = start(s, "Q8_0");
  file.u32("gemma2.attention.key_length", 256).u32("gemma2.attention.value_length", 256);
  file.u32("gemma2.attention.sliding_window", 4096);
  each_layer(file, s.layers, [&](const Add& add, std::uint32_t) {
    add_attention(add, s, "Q8_0");
    add_mlp(add, s, "Q8_0");
    add("post_attention_norm.weight", {s.hidden}, "F32");
    add("post_ffw_norm.weight", {s.hidden}, "F32");
  });
  const Architecture model = read(file);
  EXPECT_EQ(model.parameters().total, 2'614'341'888u);
  EXPECT_TRUE(model.tied_head);
  EXPECT_EQ(model.layers[0].kind, "sliding attention");
  EXPECT_EQ(model.layers[0].memory.window, 4096u);
  EXPECT_EQ(model.layers[1].memory.window, 0u);
  EXPECT_EQ(group(model, "blk.*.post_ffw_norm.weight").part, Part::kNorm);
  expect_same_as_config(model, R"({"model_type": "gemma2", "vocab_size": 256000, "hidden_size": 2304,
    "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
    "intermediate_size": 9216, "sliding_window": 4096, "max_position_embeddings": 8192})");
}

TEST(GgufArchitecture, GptOss) {
  const Sizes s{.family = "gpt-oss",
                .layers = 24,
                .hidden = 2880,
                .heads = 64,
                .kv_heads = 8,
                .head_dim = 64,
                .inner = 2880,
                .vocab = 201088};
  GgufFile file;
  file.text("general.architecture", "gpt-oss").u32("gpt-oss.block_count", 24).u32("gpt-oss.embedding_length", 2880);
  file.u32("gpt-oss.attention.head_count", 64).u32("gpt-oss.attention.head_count_kv", 8);
  file.u32("gpt-oss.attention.key_length", 64).u32("gpt-oss.attention.value_length", 64);
  file.u32("gpt-oss.attention.sliding_window", 128).u32("gpt-oss.expert_count", 32).u32("gpt-oss.expert_used_count", 4);
  file.tensor("token_embd.weight", {2880, s.vocab}, "BF16").tensor("output.weight", {2880, s.vocab}, "BF16");
  file.tensor("output_norm.weight", {2880});
  each_layer(file, 24, [&](const Add& add, std::uint32_t) {
    add_attention(add, s, "BF16");
    add("post_attention_norm.weight", {2880}, "F32");
    add("attn_q.bias", {4096}, "F32");
    add("attn_k.bias", {512}, "F32");
    add("attn_v.bias", {512}, "F32");
    add("attn_output.bias", {2880}, "F32");
    add("attn_sinks.weight", {64}, "F32");
    add("ffn_gate_inp.weight", {2880, 32}, "F32");
    add("ffn_gate_inp.bias", {32}, "F32");
    for (const std::string_view name : {"gate", "up", "down"}) {
      add(fmt::format("ffn_{}_exps.weight", name), {2880, 2880, 32}, "MXFP4");
      add(fmt::format("ffn_{}_exps.bias", name), {2880, 32}, "F32");
    }
  });
  const Architecture model = read(file);
  EXPECT_EQ(model.parameters().total, 20'914'757'184u);
  EXPECT_EQ(model.native_weights, "mxfp4");
  const TensorGroup& experts = group(model, "blk.*.ffn_gate_exps.weight");
  EXPECT_EQ(experts.count, 24u * 32);
  EXPECT_EQ(experts.rows, 2880u);
  EXPECT_EQ(experts.active, 4u);
  EXPECT_EQ(experts.of, 32u);
  EXPECT_EQ(experts.part, Part::kExperts);
  EXPECT_TRUE(experts.matrix);
  const TensorGroup& biases = group(model, "blk.*.ffn_gate_exps.bias");
  EXPECT_EQ(biases.count, 24u * 32);
  EXPECT_EQ(biases.rows, 1u);
  EXPECT_FALSE(biases.matrix);
  EXPECT_EQ(group(model, "blk.*.ffn_gate_inp.bias").part, Part::kRouter);
  EXPECT_EQ(model.layers[0].memory.window, 128u);
  EXPECT_EQ(model.layers[1].memory.window, 0u);
  EXPECT_EQ(model.layers[23].kind, "attention");
  expect_same_as_config(model, R"({"model_type": "gpt_oss", "vocab_size": 201088, "hidden_size": 2880,
    "num_hidden_layers": 24, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64,
    "intermediate_size": 2880, "num_local_experts": 32, "num_experts_per_tok": 4, "sliding_window": 128,
    "attention_bias": true, "max_position_embeddings": 131072, "tie_word_embeddings": false})");
}

TEST(GgufArchitecture, DeepSeekV2Lite) {
  for (const bool absorbed : {false, true}) {  // as files were before llama.cpp kept the latent, and since
    GgufFile file;
    file.text("general.architecture", "deepseek2").u32("deepseek2.block_count", 27);
    file.u32("deepseek2.embedding_length", 2048).u32("deepseek2.attention.head_count", 16);
    file.u32("deepseek2.attention.head_count_kv", absorbed ? 1 : 16).u32("deepseek2.attention.kv_lora_rank", 512);
    file.u32("deepseek2.attention.key_length", absorbed ? 576 : 192);
    file.u32("deepseek2.attention.value_length", absorbed ? 512 : 128).u32("deepseek2.rope.dimension_count", 64);
    if (absorbed) {
      file.u32("deepseek2.attention.key_length_mla", 192).u32("deepseek2.attention.value_length_mla", 128);
    }
    file.u32("deepseek2.expert_count", 64).u32("deepseek2.expert_used_count", 6).u32("deepseek2.vocab_size", 102400);
    file.tensor("token_embd.weight", {2048, 102400}, "BF16").tensor("output.weight", {2048, 102400}, "BF16");
    file.tensor("output_norm.weight", {2048});
    const Sizes dense{.family = "", .hidden = 2048, .inner = 10944};
    each_layer(file, 27, [&](const Add& add, std::uint32_t i) {
      add("attn_norm.weight", {2048}, "F32");
      add("attn_q.weight", {2048, 3072}, "BF16");
      add("attn_kv_a_mqa.weight", {2048, 576}, "BF16");
      add("attn_kv_a_norm.weight", {512}, "F32");
      if (absorbed) {
        add("attn_k_b.weight", {128, 512, 16}, "BF16");
        add("attn_v_b.weight", {512, 128, 16}, "BF16");
      } else {
        add("attn_kv_b.weight", {512, 4096}, "BF16");
      }
      add("attn_output.weight", {2048, 2048}, "BF16");
      if (i == 0) return add_mlp(add, dense, "BF16");
      add("ffn_norm.weight", {2048}, "F32");
      add("ffn_gate_inp.weight", {2048, 64}, "F32");
      for (const std::string_view name : {"gate", "up"}) {
        add(fmt::format("ffn_{}_exps.weight", name), {2048, 1408, 64}, "BF16");
        add(fmt::format("ffn_{}_shexp.weight", name), {2048, 2816}, "BF16");
      }
      add("ffn_down_exps.weight", {1408, 2048, 64}, "BF16");
      add("ffn_down_shexp.weight", {2816, 2048}, "BF16");
    });
    const Architecture model = read(file);
    EXPECT_EQ(model.parameters().total, 15'706'484'224u);
    EXPECT_EQ(model.layers[3].memory.latent_dim, 576u);
    EXPECT_EQ(model.layers[3].memory.kv_heads, 0u);
    EXPECT_EQ(group(model, "blk.*.ffn_up_shexp.weight").part, Part::kSharedExpert);
    EXPECT_EQ(group(model, "blk.*.ffn_up_exps.weight").count, 26u * 64);
    EXPECT_EQ(group(model, "blk.*.ffn_gate.weight").count, 1u);
    expect_same_as_config(model, R"({"model_type": "deepseek_v2", "vocab_size": 102400, "hidden_size": 2048,
      "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16, "kv_lora_rank": 512,
      "q_lora_rank": null, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
      "intermediate_size": 10944, "moe_intermediate_size": 1408, "n_routed_experts": 64, "num_experts_per_tok": 6,
      "n_shared_experts": 2, "first_k_dense_replace": 1, "moe_layer_freq": 1, "tie_word_embeddings": false,
      "max_position_embeddings": 163840})");
  }
}

void add_mamba(const Add& add, std::uint64_t hidden, std::uint64_t inner, std::uint64_t state, std::uint64_t rank) {
  add("ssm_in.weight", {hidden, 2 * inner}, "BF16");
  add("ssm_conv1d.weight", {4, inner}, "F32");
  add("ssm_conv1d.bias", {inner}, "F32");
  add("ssm_x.weight", {inner, rank + 2 * state}, "BF16");
  add("ssm_dt.weight", {rank, inner}, "BF16");
  add("ssm_dt.bias", {inner}, "F32");
  add("ssm_a", {state, inner}, "F32");
  add("ssm_d", {inner}, "F32");
  add("ssm_out.weight", {inner, hidden}, "BF16");
}

TEST(GgufArchitecture, Mamba) {
  GgufFile file;
  file.text("general.architecture", "mamba").u32("mamba.block_count", 24).u32("mamba.embedding_length", 768);
  file.u32("mamba.attention.head_count", 0).u32("mamba.feed_forward_length", 0).u32("mamba.ssm.conv_kernel", 4);
  file.u32("mamba.ssm.inner_size", 1536).u32("mamba.ssm.state_size", 16).u32("mamba.ssm.time_step_rank", 48);
  file.texts("tokenizer.ggml.tokens", 50280);
  file.tensor("token_embd.weight", {768, 50280}, "BF16").tensor("output_norm.weight", {768});
  each_layer(file, 24, [&](const Add& add, std::uint32_t) {
    add("attn_norm.weight", {768}, "F32");
    add_mamba(add, 768, 1536, 16, 48);
  });
  const Architecture model = read(file);
  EXPECT_EQ(model.parameters().total, 129'135'360u);
  EXPECT_EQ(model.vocab_size, 50280u);
  EXPECT_EQ(model.attention_layers(), 0u);
  EXPECT_EQ(model.layers[7].memory.state_values, 1536u * 16);
  EXPECT_EQ(model.layers[7].memory.conv_values, 1536u * 3);
  EXPECT_FALSE(group(model, "blk.*.ssm_conv1d.weight").matrix);
  EXPECT_FALSE(group(model, "blk.*.ssm_a").matrix);
  EXPECT_TRUE(group(model, "blk.*.ssm_in.weight").matrix);
  EXPECT_EQ(group(model, "blk.*.ssm_x.weight").part, Part::kRecurrent);
  EXPECT_EQ(group(model, "blk.*.attn_norm.weight").part, Part::kNorm);
  expect_same_as_config(model, R"({"model_type": "mamba", "vocab_size": 50280, "hidden_size": 768,
    "num_hidden_layers": 24, "state_size": 16, "conv_kernel": 4, "expand": 2, "intermediate_size": 1536,
    "time_step_rank": 48, "use_bias": false, "use_conv_bias": true, "tie_word_embeddings": true})");
}

// Granite 4.0 H Tiny: Mamba-2 but for layers 5, 15, 25 and 35, with experts in all.
GgufFile granite_hybrid(const std::vector<std::uint32_t>& kv_heads) {
  GgufFile file;
  const auto u32 = [&](std::string_view name, std::uint32_t value) {
    file.u32(fmt::format("granitehybrid.{}", name), value);
  };
  file.text("general.architecture", "granitehybrid");
  file.array("granitehybrid.attention.head_count_kv", GgufValueType::kU32, kv_heads);
  u32("block_count", 40), u32("embedding_length", 1536), u32("attention.head_count", 12), u32("vocab_size", 100352);
  u32("expert_count", 64), u32("expert_used_count", 6), u32("ssm.conv_kernel", 4), u32("ssm.inner_size", 3072);
  u32("ssm.state_size", 128), u32("ssm.group_count", 1), u32("ssm.time_step_rank", 48);
  file.tensor("token_embd.weight", {1536, 100352}, "BF16").tensor("output_norm.weight", {1536});
  const Sizes s{.family = "", .hidden = 1536, .heads = 12, .kv_heads = 4, .head_dim = 128};
  each_layer(file, 40, [&](const Add& add, std::uint32_t i) {
    if (i % 10 == 5) {
      add_attention(add, s, "BF16");
    } else {
      add("attn_norm.weight", {1536}, "F32");
      add("ssm_in.weight", {1536, 2 * 3072 + 2 * 128 + 48}, "BF16");
      add("ssm_conv1d.weight", {4, 3072 + 2 * 128}, "F32");
      add("ssm_conv1d.bias", {3072 + 2 * 128}, "F32");
      add("ssm_dt.bias", {48}, "F32");
      add("ssm_a", {1, 48}, "F32");
      add("ssm_d", {1, 48}, "F32");
      add("ssm_norm.weight", {3072, 1}, "F32");
      add("ssm_out.weight", {3072, 1536}, "BF16");
    }
    add("ffn_norm.weight", {1536}, "F32");
    add("ffn_gate_inp.weight", {1536, 64}, "F32");
    for (const std::string_view name : {"gate", "up"}) {
      add(fmt::format("ffn_{}_exps.weight", name), {1536, 512, 64}, "BF16");
      add(fmt::format("ffn_{}_shexp.weight", name), {1536, 1024}, "BF16");
    }
    add("ffn_down_exps.weight", {512, 1536, 64}, "BF16");
    add("ffn_down_shexp.weight", {1024, 1536}, "BF16");
  });
  return file;
}

std::vector<std::uint32_t> granite_kv_heads() {
  std::vector<std::uint32_t> out(40, 0);
  for (std::size_t i = 5; i < 40; i += 10) out[i] = 4;
  return out;
}

TEST(GgufArchitecture, GraniteHybrid) {
  const Architecture model = read(granite_hybrid(granite_kv_heads()));
  EXPECT_EQ(model.attention_layers(), 4u);
  EXPECT_EQ(model.recurrent_layers(), 36u);
  EXPECT_EQ(model.layers[5].memory.kv_heads, 4u);
  EXPECT_EQ(model.layers[5].memory.key_dim, 128u);
  EXPECT_EQ(model.layers[4].memory.state_values, 3072u * 128);
  EXPECT_EQ(model.layers[4].memory.conv_values, 3u * (3072 + 256));
  EXPECT_EQ(group(model, "blk.*.ssm_norm.weight").part, Part::kNorm);
  std::string types;
  for (std::size_t i = 0; i < 40; ++i) types += i % 10 == 5 ? "\"attention\"," : "\"mamba\",";
  types.pop_back();
  expect_same_as_config(model, fmt::format(R"({{"model_type": "granitemoehybrid", "vocab_size": 100352,
    "hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 12, "num_key_value_heads": 4,
    "layer_types": [{}], "mamba_n_heads": 48, "mamba_d_head": 64, "mamba_n_groups": 1, "mamba_d_state": 128,
    "mamba_d_conv": 4, "mamba_expand": 2, "mamba_conv_bias": true, "mamba_proj_bias": false,
    "num_local_experts": 64, "num_experts_per_tok": 6, "intermediate_size": 512, "shared_intermediate_size": 1024,
    "tie_word_embeddings": true, "max_position_embeddings": 131072}})",
                                           types));
}

// Two layers of `family` with all that any reader asks for.
GgufFile tiny(std::string_view family) {
  const Sizes s{.family = family,
                .layers = 12,
                .hidden = 64,
                .heads = 4,
                .kv_heads = 2,
                .head_dim = 16,
                .inner = 128,
                .vocab = 256};
  GgufFile file = start(s);
  const auto key = [&](std::string_view name) { return fmt::format("{}.{}", family, name); };
  file.u32(key("ssm.conv_kernel"), 4).u32(key("ssm.inner_size"), 128).u32(key("ssm.state_size"), 16);
  file.u32(key("ssm.time_step_rank"), 4).u32(key("wkv.head_size"), 16).u32(key("attention.kv_lora_rank"), 32);
  file.u32(key("rope.dimension_count"), 8).u32(key("ssm.group_count"), family == "mamba" || family == "jamba" ? 0 : 1);
  each_layer(file, s.layers, [&](const Add& add, std::uint32_t) {
    add_attention(add, s, "Q8_0");
    add_mlp(add, s, "Q8_0");
  });
  return file;
}

std::string windows_of(const Architecture& model) {
  std::string out;
  for (const Layer& layer : model.layers) out += layer.memory.window != 0 ? 's' : 'f';
  return out;
}

TEST(GgufArchitecture, WhichLayersSlide) {
  const auto windows = [](std::string_view family, std::uint32_t window) {
    GgufFile file = tiny(family);
    if (window != 0) file.u32(fmt::format("{}.attention.sliding_window", family), window);
    return windows_of(read(file));
  };
  EXPECT_EQ(windows("gemma2", 64), "sfsfsfsfsfsf");
  EXPECT_EQ(windows("gemma2", 0), "sfsfsfsfsfsf");
  EXPECT_EQ(windows("gemma3", 64), "sssssfsssssf");
  EXPECT_EQ(windows("gemma3", 0), "ffffffffffff");
  EXPECT_EQ(windows("gpt-oss", 64), "sfsfsfsfsfsf");
  EXPECT_EQ(windows("olmo2", 64), "sssfsssfsssf");
  EXPECT_EQ(windows("phi3", 64), "ssssssssssss");
  EXPECT_EQ(windows("phi3", 0), "ffffffffffff");
  EXPECT_EQ(windows("llama", 64), "ssssssssssss");
  EXPECT_EQ(windows("qwen2", 64), "ffffffffffff");  // written although unused
  GgufFile file = tiny("gpt-oss");
  file.u32("gpt-oss.attention.sliding_window", 64).u32("gpt-oss.attention.sliding_window_pattern", 4);
  EXPECT_EQ(windows_of(read(file)), "sssfsssfsssf");
  file = tiny("qwen3");
  file.u32("qwen3.attention.sliding_window", 64);
  file.array<std::uint8_t>("qwen3.attention.sliding_window_pattern", GgufValueType::kBool,
                           {1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1});
  EXPECT_EQ(windows_of(read(file)), "sffssffffffs");
}

TEST(GgufArchitecture, OtherMixers) {
  EXPECT_EQ(read(tiny("falcon-h1")).layers[3].kind, "attention and mamba2");
  EXPECT_EQ(read(tiny("falcon-h1")).attention_layers(), 12u);
  EXPECT_EQ(read(tiny("falcon-h1")).recurrent_layers(), 12u);
  const Architecture mamba2 = read(tiny("mamba2"));
  EXPECT_EQ(mamba2.layers[0].memory.conv_values, 3u * (128 + 32));
  for (const std::string_view family : {"rwkv6", "rwkv7"}) {
    const Architecture rwkv = read(tiny(family));
    EXPECT_EQ(rwkv.layers[0].memory.state_values, 64u * 16);
    EXPECT_EQ(rwkv.layers[0].memory.conv_values, 2u * 64);
    EXPECT_EQ(rwkv.attention_layers(), 0u);
  }
  const Architecture next = read(tiny("qwen3next"));
  EXPECT_EQ(next.layers[2].kind, "delta rule");
  EXPECT_EQ(next.layers[3].kind, "attention");
  EXPECT_EQ(next.attention_layers(), 3u);
  const Architecture jamba = read(tiny("jamba"));
  EXPECT_EQ(jamba.attention_layers(), 12u);
}

TEST(GgufArchitecture, EveryFamilyReads) {
  for (const std::string_view family :
       {"llama",   "qwen2",      "qwen2moe",      "qwen3",     "qwen3moe", "gemma",      "gemma2",    "gemma3",
        "phi2",    "phi3",       "gpt-oss",       "deepseek2", "mamba",    "mamba2",     "falcon-h1", "jamba",
        "granite", "granitemoe", "granitehybrid", "rwkv6",     "rwkv7",    "starcoder2", "olmo2"}) {
    const Architecture model = read(tiny(family));
    EXPECT_EQ(model.layers.size(), 12u) << family;
    EXPECT_GT(model.widest_values, 128u) << family;
    EXPECT_EQ(model.vocab_size, 256u) << family;
  }
}

TEST(GgufArchitecture, OldMixtralFilesHaveOneTensorAnExpert) {
  GgufFile file =
      start({.family = "llama", .layers = 1, .hidden = 64, .heads = 4, .kv_heads = 4, .head_dim = 16, .vocab = 256});
  file.u32("llama.expert_count", 8).u32("llama.expert_used_count", 2);
  for (int i = 0; i < 8; ++i) {
    file.tensor(fmt::format("blk.0.ffn_gate.{}.weight", i), {64, 96}, "Q8_0");
    file.tensor(fmt::format("blk.0.ffn_up.{}.weight", i), {64, 96}, "Q8_0");
    file.tensor(fmt::format("blk.0.ffn_down.{}.weight", i), {96, 64}, "Q8_0");
  }
  const Architecture model = read(file);
  const TensorGroup& gate = group(model, "blk.*.ffn_gate.*.weight");
  EXPECT_EQ(gate.count, 8u);
  EXPECT_EQ(gate.active, 2u);
  EXPECT_EQ(gate.of, 8u);
  EXPECT_EQ(gate.part, Part::kExperts);
  EXPECT_EQ(model.widest_values, 2u * 64 + 2 * 2 * 96 + 8);
}

TEST(GgufArchitecture, Refuses) {
  const ErrorCode bad = ErrorCode::kInvalidArgument;
  expect_refused(GgufFile().tensor("blk.0.x", {1}), bad, "m.gguf: general.architecture is missing");
  expect_refused(GgufFile().u32("general.architecture", 3), bad,
                 "general.architecture must be text, but is the number 3");
  expect_refused(tiny("clip"), ErrorCode::kUnsupported,
                 "m.gguf: general.architecture \"clip\" is unknown; known are llama, ");
  const auto one = [](std::string_view key, std::uint32_t value) {
    GgufFile file;
    file.text("general.architecture", "llama");
    const std::vector<std::pair<std::string_view, std::uint32_t>> all = {
        {"block_count", 1}, {"embedding_length", 64}, {"attention.head_count", 4}, {"attention.head_count_kv", 2}};
    for (const auto& [name, number] : all) {
      if (name != key) file.u32(fmt::format("llama.{}", name), number);
    }
    if (value != 77) file.u32(fmt::format("llama.{}", key), value);
    file.tensor("blk.0.attn_q.weight", {64, 64}).tensor("blk.0.ffn_up_exps.weight", {64, 64, 4});
    return file;
  };
  expect_refused(one("block_count", 77), bad, "m.gguf: llama.block_count is missing");
  expect_refused(one("block_count", 0), bad, "llama.block_count must be a number from 1 to 4096, but is 0");
  expect_refused(one("block_count", 2), bad,
                 "llama.block_count must be 1, the number of layers that have tensors, but is 2");
  expect_refused(one("embedding_length", 77), bad, "llama.embedding_length is missing");
  expect_refused(one("embedding_length", 1u << 31), bad, "llama.embedding_length must be a number from 1 to");
  expect_refused(one("attention.head_count", 77), bad, "llama.attention.head_count is missing");
  expect_refused(one("attention.head_count", 0), bad, "llama.attention.head_count must be from 1");
  expect_refused(one("attention.head_count_kv", 3), bad,
                 "llama.attention.head_count_kv must be a divisor of the 4 heads of layer 0");
  expect_refused(one("attention.head_count_kv", 0), bad, "llama.attention.head_count_kv must be a divisor");
  expect_refused(one("vocab_size", 256), bad,
                 "tensor blk.0.ffn_up_exps.weight is of experts, but expert_count is missing");
  expect_refused(one("vocab_size", 256).u32("llama.expert_count", 4), bad, "llama.expert_used_count is missing");
  expect_refused(one("vocab_size", 256).u32("llama.expert_count", 4).u32("llama.expert_used_count", 5), bad,
                 "llama.expert_used_count must be a number from 1 to 4");
  expect_refused(one("vocab_size", 256).u32("llama.expert_count", 8).u32("llama.expert_used_count", 2), bad,
                 "holds 4 experts, but expert_count is 8");
  auto kv = granite_kv_heads();
  kv.pop_back();
  expect_refused(
      granite_hybrid(kv), bad,
      "granitehybrid.attention.head_count_kv must be one number up to 2097152, or one for each of the 40 layers");
  GgufFile real = one("embedding_length", 77);
  real.raw("llama.embedding_length", GgufValueType::kF32, le(64.0f));
  expect_refused(real, bad, "llama.embedding_length must be a number from 1 to");
}

TEST(GgufPart, ByName) {
  const std::vector<std::pair<std::string_view, Part>> parts = {
      {"token_embd.weight", Part::kEmbedding},
      {"output.weight", Part::kHead},
      {"output_norm.weight", Part::kNorm},
      {"token_embd_norm.weight", Part::kNorm},
      {"rope_freqs.weight", Part::kAttention},
      {"blk.0.attn_q_norm.weight", Part::kNorm},
      {"blk.0.attn_qkv.weight", Part::kAttention},
      {"blk.0.attn_sinks.weight", Part::kAttention},
      {"blk.0.ffn_gate_inp.weight", Part::kRouter},
      {"blk.0.exp_probs_b.bias", Part::kRouter},
      {"blk.0.ffn_gate_inp_shexp.weight", Part::kSharedExpert},
      {"blk.0.ffn_up_shexp.weight", Part::kSharedExpert},
      {"blk.0.ffn_gate_up_exps.weight", Part::kExperts},
      {"blk.0.ffn_down.weight", Part::kFeedForward},
      {"blk.0.ssm_norm.weight", Part::kNorm},
      {"blk.0.time_mix_ln.weight", Part::kNorm},
      {"blk.0.time_mix_w1.weight", Part::kRecurrent},
      {"blk.0.channel_mix_key.weight", Part::kFeedForward}};
  for (const auto& [name, part] : parts) EXPECT_EQ(gguf_part(name), part) << name;
}

}  // namespace
}  // namespace axon
