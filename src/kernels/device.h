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
// meet quantised weights. kExact: float32 throughout, whatever the weights. kMixed, for training: where the processor
// has a dot product of bf16 pairs, quantised and bf16 weights and what they meet, activations and gradients, are
// rounded to bf16, and sums are float32; elsewhere as kExact.
enum class Arithmetic { kFast, kExact, kMixed };

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
  std::uint8_t* compressed = nullptr;              // [H, head_plan.bytes]
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

// g[i] += factor * sum_t a[t,i] * b[b_rows[t]]: the gradient of a factor of a low-rank adapter.
struct OuterProduct {
  Mat<const float> a;                     // [T, R]; R is a rank: small
  Mat<const float> b;                     // [any, C]
  std::span<const std::uint32_t> b_rows;  // [T] rows of b; empty: row t is token t (then b.rows == T)
  float factor = 1.0f;
  Mat<float> g;  // [R, C]
};

// Which values of a [T, C] matrix drop out: value (t, c) is number first + t * C + c of a stream of its own; it is
// kept, as 1 / (1 - p) of itself, iff CounterRng(seed, stream).uniform(number) >= p. So the way back finds the same
// ones.
struct Dropout {
  std::uint64_t seed = 0, stream = 0, first = 0;
  float p = 0.0f;  // [0, 1)
};

// A label that asks for nothing.
inline constexpr std::uint32_t kNoLabel = 0xFFFFFFFFu;

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
  // rounds the queries of short calls to int8 and weights to 8 bits (kernels/cpu/coded_keys.h, coded_values.h); keys
  // and values of this call are float32.
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

  // The verbs below are training's. d + name is the gradient of the loss in respect of it; "(=)" is set, "(+=)" is
  // added to. Results depend on the inputs and the number of threads alone, to the bit.

  // The way back through Product: y[t] (+)= W^T x[x_rows[t]].   x [any, rows]   y [T, cols]
  // Products of one call that add to the same y are not allowed.
  virtual void matmul_transposed(std::span<const Product> products) = 0;
  void matmul_transposed(const Weight& w, Mat<const float> x, Mat<float> y, bool add = false) {
    const Product one{w, x, {}, y, add};
    matmul_transposed(std::span<const Product>(&one, 1));
  }

  // Independent of each other.
  virtual void add_outer(std::span<const OuterProduct> products) = 0;

  // y[t,c] (=, or += if `add`) scale[c] * x[t,c]. y may be x.
  virtual void scale_columns(Mat<const float> x, std::span<const float> scale, Mat<float> y, bool add) = 0;
  // g[c] (+=) sum_t a[t,c] * b[t,c]
  virtual void add_column_dots(Mat<const float> a, Mat<const float> b, std::span<float> g) = 0;

  // y (=, or += if `add`) what is left of x. y may be x.
  virtual void dropout(const Dropout& dropout, Mat<const float> x, Mat<float> y, bool add) = 0;

  // Through y = rms_norm(x, weight).   dx (+=)
  virtual void rms_norm_backward(Mat<const float> x, std::span<const float> weight, float eps, Mat<const float> dy,
                                 Mat<float> dx) = 0;

  // Through conv_silu of x behind `tail`, the K-1 inputs before it. `carry` [K-1, E]: on entry what later calls want of
  // the last K-1 of tail and x together, on return what is wanted of `tail`.   du, dx (=) [T, E]; dx may be du or x
  virtual void conv_silu_backward(Mat<const float> x, Mat<const float> taps, std::span<const float> bias,
                                  Mat<const float> tail, Mat<const float> du, Mat<float> carry, Mat<float> dx) = 0;

  // Through scan from the state h [N, E] on. dh [N, E]: on entry the gradient of the state after the last token, on
  // return that of h. Where dt was clipped its gradient is zero. States between are computed again, a few at a time.
  //   dy [T, E]   du, dz (=) [T, E]; du may be dy or in.u; dz may be dy or in.z, not what du is   dbcdt (=) [T, 2N+1]
  virtual void scan_backward(const ScanInput& in, Mat<const float> h, Mat<const float> dy, Mat<float> dh, Mat<float> du,
                             Mat<float> dz, Mat<float> dbcdt) = 0;

  // Sliding-window attention of T tokens that have no past, kept for the way back.
  //   q, k, v, y (=) [T, H*A]   log_sums (=) [H, T]: log of the sum of exp of a query's scaled scores
  virtual void attend_alone(Mat<const float> q, Mat<const float> k, Mat<const float> v, std::size_t heads,
                            std::size_t window, Mat<float> y, Mat<float> log_sums) = 0;
  // Through attend_alone.   dy [T, H*A]   dq, dk, dv (=) [T, H*A]; dq may be q and y, dk may be k, dv may be v
  virtual void attend_backward(Mat<const float> q, Mat<const float> k, Mat<const float> v, std::size_t heads,
                               std::size_t window, Mat<const float> y, Mat<const float> log_sums, Mat<const float> dy,
                               Mat<float> dq, Mat<float> dk, Mat<float> dv) = 0;

  // Through the softmax of route at the experts that it chose: which ones is not differentiated.
  //   dscores [T, top_k]   dlogits (=) [T, X]; may be logits
  virtual void route_backward(Mat<const float> logits, Mat<const std::uint32_t> experts, Mat<const float> dscores,
                              Mat<float> dlogits) = 0;

  // Through swiglu.   dgate, dup (=) [T, F]; dgate may be gate, dup may be up or dh
  virtual void swiglu_backward(Mat<const float> gate, Mat<const float> up, Mat<const float> dh, Mat<float> dgate,
                               Mat<float> dup) = 0;

  // Through combine, whose x [T, D] goes on unchanged (dx = dy); every slot belongs to one choice.
  //   drouted (=); may be routed   dscores (=) [T, top_k]   dshared (=) [T, D]; may be shared   dshared_gate (=) [T, 1]
  virtual void combine_backward(Mat<const float> routed, Mat<const std::uint32_t> slots, Mat<const float> scores,
                                Mat<const float> shared, Mat<const float> shared_gate, Mat<const float> dy,
                                Mat<float> drouted, Mat<float> dscores, Mat<float> dshared,
                                Mat<float> dshared_gate) = 0;
  // The way back of taking rows: x[t] (+=) sum_j rows[slots[t,j]].   rows [any, D]   slots [T, top_k]   x [T, D]
  virtual void add_rows(Mat<const float> rows, Mat<const std::uint32_t> slots, Mat<float> x) = 0;

  // loss[t] = log(sum_i exp(logits[t,i])) - logits[t,labels[t]], 0 for kNoLabel.   logits [T, V]   labels, loss [T]
  virtual void cross_entropy(Mat<const float> logits, std::span<const std::uint32_t> labels, std::span<float> loss) = 0;
  // logits[t] becomes factors[t] * (softmax(logits[t]) - 1 at labels[t]), zeros for kNoLabel.   factors [T]: dloss[t]
  virtual void cross_entropy_backward(Mat<float> logits, std::span<const std::uint32_t> labels,
                                      std::span<const float> factors) = 0;
};

}  // namespace axon
