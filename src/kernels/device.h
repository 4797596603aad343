#pragma once
// Device: the engine's instruction set. About a dozen verbs over views; nobody above says which processor runs them.
//
// Contracts that hold for every verb: shapes were checked at load (AXON_DCHECK only), nothing is allocated, nothing
// fails, sums are accumulated in float32 (int32 inside a quantised group), outputs come last and do not alias inputs
// unless the verb says so. Letters as in docs/dims.md: T tokens now, D hidden, E ssm inner, N ssm state, K conv taps,
// H heads, A head dim, X experts, F expert ffn, G quant group.

#include <cstddef>
#include <cstdint>
#include <span>

#include "quant/turboquant_head.h"
#include "tensor/mat.h"
#include "tensor/weight.h"

namespace axon {

// kFast: activations are rounded to int8 (per token and per weight group, symmetric, scale = max|x| / 127) before they
// meet quantised weights. kExact: float32 throughout, whatever the weights.
enum class Arithmetic { kFast, kExact };

// y[t] (+)= W x[x_rows[t]]
struct Product {
  Weight weight;                          // [rows, cols]
  Mat<const float> x;                     // [any, cols]
  std::span<const std::uint32_t> x_rows;  // [T] rows of x; empty: row t is token t (then x.rows == T)
  Mat<float> y;                           // [T, rows]
  bool add = false;                       // y += instead of y =
};

// What a sliding-window layer remembers: the last `capacity` tokens. Either as floats, token p in slot p % capacity; or
// compressed, each head by itself (quant/turboquant_layout.h).
struct KvCache {
  DType dtype = DType::kF16;  // of k and v: kF16 or kF32
  void* k = nullptr;          // [H, capacity, A]
  void* v = nullptr;          // [H, capacity, A]
  std::size_t heads = 0, capacity = 0, head_dim = 0;

  const turboquant::Layout* layout = nullptr;  // compressed if there is one
  turboquant::HeadPlan head_plan{};
  std::uint8_t* compressed = nullptr;             // [H, head_plan.bytes]
  const turboquant::Rotation* rotation = nullptr;  // the basis that coded vectors come in; null: any will do

  turboquant::HeadView head(std::size_t h) const {
    return {*layout, head_dim, head_plan, compressed + h * head_plan.bytes.count};
  }
};

// Inputs of the selective scan (Mamba, arXiv 2312.00752, eq. 2 and 3, with one raw step per token):
//   dt[t,e] = clip(softplus(bcdt[t,2N] * dt_weight[e] + dt_bias[e]), 1e-4, 100)
//   h[n,e]  = exp(dt[t,e] * a[n,e]) * h[n,e] + (dt[t,e] * u[t,e]) * bcdt[t,n]
//   y[t,e]  = (sum_n bcdt[t,N+n] * h[n,e] + d[e] * u[t,e]) * silu(z[t,e])
struct ScanInput {
  Mat<const float> u;                // [T, E] after convolution and SiLU
  Mat<const float> z;                // [T, E] gate branch
  Mat<const float> bcdt;             // [T, 2N+1] B, C, raw dt
  std::span<const float> dt_weight;  // [E]
  std::span<const float> dt_bias;    // [E]
  Mat<const float> a;                // [N, E] = -exp(A_log), transposed
  std::span<const float> d;          // [E]
};

class Device {
 public:
  virtual ~Device() = default;

  // All products of one call are independent; products with the same x share its int8 form. In kFast, for products
  // with quantised weights. Float weights meet float32 activations; but in kFast, where the processor has a dot product
  // of bf16 pairs, matrices of bf16 meet activations rounded to bf16, denormals as zero (kernels/cpu/bf16_kernels.h).
  virtual void matmul(std::span<const Product> products) = 0;
  void matmul(const Weight& w, Mat<const float> x, Mat<float> y, bool add = false) {
    const Product one{w, x, {}, y, add};
    matmul(std::span<const Product>(&one, 1));
  }

  // y[t] = table[ids[t]]; ids are in range.
  virtual void embed(const Weight& table, std::span<const std::uint32_t> ids, Mat<float> y) = 0;

  // y = x * rsqrt(mean(x^2) + eps) * weight. y may be x.
  virtual void rms_norm(Mat<const float> x, std::span<const float> weight, float eps, Mat<float> y) = 0;

  // Causal depthwise convolution, then SiLU. `tail` holds the K-1 inputs before this call, oldest first, and afterwards
  // the last K-1 of tail and x together. u[t,e] = silu(bias[e] + sum_k taps[k,e] * input[t - (K-1) + k, e]).
  //   x [T, E] (strided)   taps [K, E]   bias [E]   tail [K-1, E]   u [T, E]
  virtual void conv_silu(Mat<const float> x, Mat<const float> taps, std::span<const float> bias, Mat<float> tail,
                         Mat<float> u) = 0;

  // Selective scan; h [N, E] is read and left as after the last token. y [T, E]; y may be in.u or in.z.
  virtual void scan(const ScanInput& in, Mat<float> h, Mat<float> y) = 0;

  // Each head of each token, [A], becomes R x; or R^T x if `back`. x [T, H*A]
  virtual void rotate(const turboquant::Rotation& rotation, bool back, Mat<float> x) = 0;

  // Sliding-window attention, scale 1/sqrt(A). Tokens first_position + t, t < T, see the past in `past` (positions
  // below first_position) and each other: key p is visible to query q iff 0 <= q - p < window. `past` holds the last
  // min(first_position, capacity) tokens; capacity >= min(window, first_position) - 1. With a compressed past, kFast
  // rounds the queries of short calls to int8 and weights to 8 bits (kernels/cpu/coded_keys.h, coded_values.h); keys and
  // values of this call are float32.
  //   q, k, v [T, H*A]   y [T, H*A]; y may be q
  virtual void attend(Mat<const float> q, Mat<const float> k, Mat<const float> v, const KvCache& past,
                      std::uint64_t first_position, std::size_t window, Mat<float> y) = 0;

  // Stores tokens first_position + t into their slots (only the last `capacity` of them when T is larger).
  virtual void append(Mat<const float> k, Mat<const float> v, std::uint64_t first_position, const KvCache& cache) = 0;

  // scores = the top_k largest of softmax(logits[t]), in descending order (ties: lower expert first), not renormalised;
  // experts their indices. logits [T, X]   experts, scores [T, top_k]
  virtual void route(Mat<const float> logits, Mat<std::uint32_t> experts, Mat<float> scores) = 0;

  // h = silu(gate) * up. h may be gate.
  virtual void swiglu(Mat<const float> gate, Mat<const float> up, Mat<float> h) = 0;

  // x[t] += sum_j scores[t,j] * routed[slots[t,j]] + sigmoid(shared_gate[t,0]) * shared[t]
  //   routed [any, D]   slots, scores [T, top_k]   shared [T, D]   shared_gate [T, 1]   x [T, D]
  virtual void combine(Mat<const float> routed, Mat<const std::uint32_t> slots, Mat<const float> scores,
                       Mat<const float> shared, Mat<const float> shared_gate, Mat<float> x) = 0;
};

}  // namespace axon
