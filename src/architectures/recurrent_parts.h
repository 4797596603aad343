#pragma once
// What the recurrent and hybrid families share: their mixers as lists of tensors, and the memory that each leaves.
// A mixer's sizes come from a config through the readers here, which bound them: no count of values overflows later.

#include <string_view>
#include <vector>

#include "architectures/builder.h"

namespace axon {

inline constexpr std::uint64_t kMaxHeads = 1u << 16;
inline constexpr std::uint64_t kMaxHeadSize = 1u << 14;
inline constexpr std::uint64_t kMaxState = 1u << 16;
inline constexpr std::uint64_t kMaxTaps = 256;

// The selective scan of Mamba (Gu and Dao 2023), each inner channel with a state of its own.
struct Mamba {
  std::uint64_t hidden = 0, inner = 0, state = 16, taps = 4, time_rank = 0;
  bool conv_bias = true, bias = false;
  bool inner_norms = false;  // Jamba: weighted norms of dt, B and C
  void add(Builder& builder, std::string_view name, std::uint64_t count) const;
  LayerMemory memory() const;
  std::uint64_t width() const;  // as Builder::width counts it
};

// The multi-head form (Dao and Gu 2024): one decay a head, B and C shared by the heads of a group.
struct Mamba2 {
  std::uint64_t hidden = 0, heads = 0, head_dim = 0, groups = 1, state = 128, taps = 4;
  bool conv_bias = true, bias = false, out_bias = false;
  bool gated_norm = true;
  std::uint64_t inner() const { return heads * head_dim; }
  std::uint64_t convolved() const { return inner() + 2 * groups * state; }  // x, B and C
  void add(Builder& builder, std::string_view name, std::uint64_t count) const;
  LayerMemory memory() const;
  std::uint64_t width() const;
};

// Attention as the hybrids have it.
struct GroupedAttention {
  std::uint64_t hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, window = 0;
  bool bias = false;
  bool query_gate = false;  // the query projection also makes a gate for the output (Qwen3-Next)
  void add(Builder& builder, std::string_view name, std::uint64_t count) const;
  LayerMemory memory() const;
  std::uint64_t width() const;
};

// gate, up and down without biases unless said.
void add_gated_mlp(Builder& builder, std::string_view name, Part part, std::uint64_t hidden, std::uint64_t inner,
                   std::uint64_t count, bool bias = false);

// What every config has. An absent vocab_size, hidden_size or num_hidden_layers is an error: no model goes by the
// defaults of its class.
struct Body {
  std::uint64_t vocab = 0, hidden = 0, layers = 0;
  bool tied = false;
};
Result<Body> read_body(const Fields& fields, bool tied_by_default);

struct EndNames {
  std::string_view embedding, norm, head;
};
// Embedding, last norm (with a bias when it is a LayerNorm) and head; fills in the fields of the model that follow.
void add_ends(Builder& builder, const Body& body, EndNames names, bool norm_bias = false);

// num_attention_heads, num_key_value_heads, head_dim and attention_bias, with what the model's class assumes.
struct AttentionDefaults {
  std::uint64_t heads = 0, kv_heads = 0;
  std::uint64_t head_dim = 0;  // 0: hidden / heads
};
Result<GroupedAttention> read_attention(const Fields& fields, std::uint64_t hidden, AttentionDefaults defaults);
// int(factor * hidden), as the models' own code rounds it.
Result<std::uint64_t> read_inner_size(const Fields& fields, std::string_view factor, std::uint64_t hidden);
// A number, or "auto" (also when absent) for `otherwise`.
Result<std::uint64_t> count_or_auto(const Fields& fields, std::string_view key, std::uint64_t otherwise,
                                    std::uint64_t max);
// The fields mamba_n_heads, mamba_d_head, mamba_n_groups, mamba_d_state, mamba_d_conv, mamba_conv_bias and
// mamba_proj_bias of Bamba, Granite 4 and Falcon-H1, whose defaults agree; heads times head size must be `inner`.
Result<Mamba2> read_mamba2_of_hybrid(const Fields& fields, std::uint64_t hidden, std::uint64_t inner);
// `part` <= `whole`, named in the error.
Status check_at_most(const Fields& fields, std::string_view part_key, std::uint64_t part, std::string_view whole_key,
                     std::uint64_t whole);
Status check_divides(const Fields& fields, std::string_view divisor_key, std::uint64_t divisor,
                     std::string_view whole_key, std::uint64_t whole);

// One reader each; recurrent.cc has the table.
Result<Architecture> read_mamba(const Fields& fields);
Result<Architecture> read_falcon_mamba(const Fields& fields);
Result<Architecture> read_mamba2(const Fields& fields);
Result<Architecture> read_jamba(const Fields& fields);
Result<Architecture> read_granite_hybrid(const Fields& fields);
Result<Architecture> read_bamba(const Fields& fields);
Result<Architecture> read_falcon_h1(const Fields& fields);
Result<Architecture> read_nemotron_h(const Fields& fields);
Result<Architecture> read_qwen3_next(const Fields& fields);
Result<Architecture> read_rwkv4(const Fields& fields);
Result<Architecture> read_rwkv5(const Fields& fields);
Result<Architecture> read_rwkv6(const Fields& fields);
Result<Architecture> read_rwkv7(const Fields& fields);

}  // namespace axon
