// Models of nothing but Mamba layers. Shapes as in transformers' MambaMixer, FalconMambaMixer and Mamba2Mixer.

#include "architectures/recurrent_parts.h"

namespace axon {
namespace {

constexpr EndNames kMambaEnds{.embedding = "embeddings", .norm = "norm_f", .head = "lm_head"};

template <class Mixer>
Result<Architecture> stack_of(const Mixer& mixer, std::string_view kind, const Body& body, Builder builder) {
  add_ends(builder, body, kMambaEnds);
  builder.vector("layers.*.norm.weight", Part::kNorm, body.hidden, body.layers);
  mixer.add(builder, "layers.*.mixer", body.layers);
  builder.width(2 * body.hidden + mixer.width());
  for (std::uint64_t i = 0; i < body.layers; ++i) builder.layer({std::string(kind), mixer.memory()});
  return builder.finish();
}

// Falcon Mamba is Mamba with norms of dt, B and C that have no weights.
Result<Architecture> read_mamba_like(std::string_view family, const Fields& fields) {
  const Body body = AXON_TRY(read_body(fields, true));
  Mamba mixer;
  mixer.hidden = body.hidden;
  // intermediate_size wins where it is given: falcon-mamba-7b says expand 16 and means 2.
  mixer.inner = fields.has("intermediate_size") ? AXON_TRY(fields.count("intermediate_size"))
                                                : AXON_TRY(read_inner_size(fields, "expand", body.hidden));
  mixer.state = AXON_TRY(fields.count_or("state_size", 16, kMaxState));
  mixer.taps = AXON_TRY(fields.count_or("conv_kernel", 4, kMaxTaps));
  mixer.time_rank = AXON_TRY(count_or_auto(fields, "time_step_rank", (body.hidden + 15) / 16, Fields::kMax));
  mixer.conv_bias = AXON_TRY(fields.flag_or("use_conv_bias", true));
  mixer.bias = AXON_TRY(fields.flag_or("use_bias", false));
  return stack_of(mixer, "mamba", body, Builder(family, fields));
}

}  // namespace

Result<Architecture> read_mamba(const Fields& fields) { return read_mamba_like("mamba", fields); }
Result<Architecture> read_falcon_mamba(const Fields& fields) { return read_mamba_like("falcon_mamba", fields); }

Result<Architecture> read_mamba2(const Fields& fields) {
  const Body body = AXON_TRY(read_body(fields, false));
  Mamba2 mixer;
  mixer.hidden = body.hidden;
  mixer.heads = AXON_TRY(fields.count_or("num_heads", 128, kMaxHeads));
  mixer.head_dim = AXON_TRY(fields.count_or("head_dim", 64, kMaxHeadSize));
  const std::uint64_t inner = AXON_TRY(read_inner_size(fields, "expand", body.hidden));
  if (mixer.inner() != inner) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: num_heads ({}) times head_dim ({}) must be expand times hidden_size = {}", fields.what(),
                      mixer.heads, mixer.head_dim, inner);
  }
  mixer.groups = AXON_TRY(fields.count_or("n_groups", 8, kMaxHeads));
  AXON_TRY(check_divides(fields, "n_groups", mixer.groups, "num_heads", mixer.heads));
  mixer.state = AXON_TRY(fields.count_or("state_size", 128, kMaxState));
  mixer.taps = AXON_TRY(fields.count_or("conv_kernel", 4, kMaxTaps));
  mixer.conv_bias = AXON_TRY(fields.flag_or("use_conv_bias", true));
  mixer.bias = mixer.out_bias = AXON_TRY(fields.flag_or("use_bias", false));
  return stack_of(mixer, "mamba2", body, Builder("mamba2", fields));
}

}  // namespace axon
