#include "layers/swa.h"

#include <array>

namespace axon {

void swa_forward(Device& device, const SwaWeights& w, Mat<const float> x, const KvCache& cache, std::uint64_t position,
                 std::size_t window, const SwaScratch& scratch, Mat<float> residual) {
  const Mat<float> q = scratch.q.rows_from(0, x.rows);
  const Mat<float> k = scratch.k.rows_from(0, x.rows);
  const Mat<float> v = scratch.v.rows_from(0, x.rows);
  const std::array<Product, 3> qkv = {Product{w.q_proj, x, {}, q}, Product{w.k_proj, x, {}, k},
                                      Product{w.v_proj, x, {}, v}};
  device.matmul(qkv);
  const bool rotates = cache.rotation != nullptr && !w.rotated;
  if (rotates) {
    for (const Mat<float> m : {q, k, v}) device.rotate(*cache.rotation, /*back=*/false, m);
  }
  // The ring takes the new tokens in only after every query has seen what they would push out.
  device.attend(q, k, v, cache, position, window, q);
  device.append(k, v, position, cache);
  if (rotates) device.rotate(*cache.rotation, /*back=*/true, q);
  device.matmul(w.o_proj, q, residual, /*add=*/true);
}

}  // namespace axon
