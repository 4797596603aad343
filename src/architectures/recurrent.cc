#include "architectures/recurrent_parts.h"

#include "architectures/families.h"

namespace axon {

std::vector<Family> recurrent_families() {
  return {{"mamba", read_mamba},
          {"mamba2", read_mamba2},
          {"falcon_mamba", read_falcon_mamba},
          {"jamba", read_jamba},
          {"granitemoehybrid", read_granite_hybrid},
          {"bamba", read_bamba},
          {"falcon_h1", read_falcon_h1},
          {"nemotron_h", read_nemotron_h},
          {"qwen3_next", read_qwen3_next},
          {"rwkv", read_rwkv4},
          {"rwkv5", read_rwkv5},
          {"rwkv6", read_rwkv6},
          {"rwkv7", read_rwkv7}};
}

}  // namespace axon
