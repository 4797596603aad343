#pragma once
// A linear layer: a frozen weight, and maybe a low-rank adapter on it.
//   LoRA (arXiv 2106.09685):  y = W x + s B (A x)
//   DoRA (arXiv 2402.09353):  y = m / ||W + s B A|| * (W x + s B (A x)), the norm of each row of the sum; held constant
//                             on the way back, as its section 4.3 allows
// An adapter is two small matrices that lie with the rank first: A x and dy B^T are products, B^T h and A^T dh products
// transposed. The weight itself has no gradient.

#include <cstdint>
#include <span>

#include "kernels/device.h"
#include "memory/arena.h"

namespace axon {

struct Adapter {
  Mat<const float> a;              // [R, in]
  Mat<const float> b;              // [R, out]
  std::span<const float> scale;    // [R]: s, as often as there are ranks
  std::span<const float> columns;  // [out]: m / norm, DoRA; empty: LoRA
  // Where gradients are added; without data where nothing learns. Fewer rows than R: only the first ranks learn.
  Mat<float> da;              // [<= R, in]
  Mat<float> db;              // [<= R, out]
  std::span<float> dcolumns;  // [out]: sum over tokens of dy * y, DoRA
  std::uint64_t stream = 0;   // of its dropout
  bool half = false;          // what it adds is rounded to float16, there and back: the original's cast to x's type
  std::size_t rank() const { return a.rows; }
  bool dora() const { return !columns.empty(); }
};

// A Weight with its adapter; one adapter an expert when the weight is a stack of them.
struct Linear : Weight {
  const Adapter* adapter = nullptr;
  Linear() = default;
  Linear(const Weight& weight) : Weight(weight) {}
  // The rows of one expert, [first, first + count), which is number first / count.
  Linear expert(std::size_t first, std::size_t count) const {
    Linear out(slice(first, count));
    out.adapter = adapter == nullptr ? nullptr : adapter + first / count;
    return out;
  }
};

// What adapters ask of the memory of those who call them.
struct AdapterNeeds {
  std::size_t rank = 0;  // the largest; 0: no adapters
  bool dora = false;     // outputs that are added somewhere are first kept by themselves
  bool dropout = false;
  bool half_input = false;  // that of input_proj rounds (Adapter::half)
  bool backward = false;    // the way back will be taken
};

// Room for the products of one call, and what of it is for dropout.
struct LinearScratch {
  std::span<Product> products;     // two for each call at once
  std::span<OuterProduct> outers;  // [2], backward
  Mat<float> dropped;              // [T, widest in], dropout
  float dropout = 0.0f;            // probability; 0: none
  std::uint64_t seed = 0;          // of this step
  std::uint64_t first_token = 0;   // of x, counted through the step
  LinearScratch() = default;
  LinearScratch(Carver& carver, std::size_t tokens, std::size_t calls, std::size_t in_max, const AdapterNeeds& needs);
};

// y[t] (=, or += if `add`) linear(x[x_rows[t]])
struct LinearCall {
  Linear linear;
  Mat<const float> x;                     // [any, in]
  std::span<const std::uint32_t> x_rows;  // [T] rows of x; empty: row t is token t
  Mat<float> y;                           // [T, out]
  Mat<float> h;                           // [T, >= R]: left behind s A x; an adapter's alone
  bool add = false;
  // With Adapter::half: scratch.
  Mat<float> own = {};  // [T, out]: with DoRA and `add`, left behind: the sum W x + s B (A x)
};

// Calls are independent, as products are.
void linear_forward(Device& device, std::span<const LinearCall> calls, const LinearScratch& scratch);
// Of linear_forward only what it leaves in h.
void linear_low_rank(Device& device, const LinearCall& call, const LinearScratch& scratch);

struct LinearBack {
  LinearCall forward;   // as it was, with x, h, and, with DoRA, y (own, when that was added) as it left them
  Mat<const float> dy;  // [T, out]
  Mat<float> dx;        // [T, in] (=, or += if `add`): of the rows that were taken; without data: not wanted
  bool add = false;
  Mat<float> dh;      // [T, >= R] scratch; an adapter's alone
  Mat<float> scaled;  // [T, out] scratch; DoRA's alone
};

// Adds to the gradients of the adapters, and gives dx. The dx of different calls do not overlap.
void linear_backward(Device& device, std::span<const LinearBack> calls, const LinearScratch& scratch);

}  // namespace axon
