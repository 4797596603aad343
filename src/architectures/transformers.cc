#include "architectures/families.h"
#include "architectures/transformer_parts.h"

namespace axon {

std::vector<Family> transformer_families() {
  std::vector<Family> all = dense_families();
  for (const auto& more : {gemma_families(), moe_families(), latent_families()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

}  // namespace axon
