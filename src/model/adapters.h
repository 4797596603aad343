#pragma once
// The adapters of a model: which layers have one, their values in one piece of memory, and how they reach the model.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/cpu/thread_pool.h"
#include "layers/linear.h"
#include "memory/arena.h"
#include "model/config.h"
#include "model/model.h"

namespace axon {

enum class AdapterKind { kLora, kDora };

// A linear layer with an adapter, or a stack of experts with one each.
struct AdaptedLinear {
  std::string name;  // "layer_3.ssm.in_proj"
  std::size_t in = 0, out = 0;
  std::size_t experts = 0;  // 0: not a stack
  std::size_t rank = 0;
  std::size_t count() const { return experts == 0 ? 1 : experts; }
  std::size_t parameters(AdapterKind kind) const {
    return count() * (rank * (in + out) + (kind == AdapterKind::kDora ? out : 0));
  }
};

struct AdapterShape {
  AdapterKind kind = AdapterKind::kLora;
  float scale = 20.0f;  // what B A is multiplied by: alpha / rank in PEFT's terms
  std::vector<AdaptedLinear> linears;
  std::size_t parameters() const;
  std::size_t rank_max() const;
  AdapterNeeds needs() const { return {.rank = rank_max(), .dora = kind == AdapterKind::kDora}; }
};

// Which layers `targets` mean: a layer's last name ("q_proj"; of experts that are not routed), its full name, an ending
// of that at a dot ("switch_mlp.up_proj"), or a group: "ssm" (in_proj, out_proj), "attention", "shared_expert",
// "experts" (the routed ones), "projections" (input_proj, output_proj), "all-linear" (all but the routed).
// kInvalidArgument names a target that means nothing here, and says what there is.
Result<std::vector<AdaptedLinear>> find_linears(const Config& config, std::span<const std::string> targets,
                                                std::size_t rank);
// The original's choice: all but x_proj, the routers and the routed experts.
std::span<const std::string> default_targets();

// One tensor of an adapter; of a stack of experts, that of all of them.
struct AdapterTensor {
  enum class Part { kA, kB, kMagnitude };
  std::size_t linear = 0;  // in AdapterShape::linears
  Part part = Part::kA;
  std::size_t expert = 0;
  std::size_t rows = 0, cols = 0;  // [R, in], [R, out], [1, out]
  std::size_t first = 0;           // of AdapterSet::values()
  std::size_t size() const { return rows * cols; }
};

class AdapterSet {
 public:
  AdapterSet() = default;
  // Over a Carver that measures, this is the plan. Values are zeros. Views into the owner's memory.
  AdapterSet(Carver& values, AdapterShape shape);
  AdapterSet(AdapterSet&&) = default;
  AdapterSet& operator=(AdapterSet&&) = default;

  const AdapterShape& shape() const { return shape_; }
  std::span<const AdapterTensor> tensors() const { return tensors_; }
  std::span<float> values() const { return values_; }
  std::span<float> values_of(const AdapterTensor& t) const { return values_.subspan(t.first, t.size()); }

  // A ~ U(-1/sqrt(in), 1/sqrt(in)), B = 0, from streams of their own (spec section 8). Magnitudes come with attach().
  void initialise(std::uint64_t seed);

  // Puts the adapters on the model's layers. With DoRA, reads the weights once for the norms of their rows, and, if
  // `fresh`, sets the magnitudes to them. The set must outlive its use and not move.
  void attach(Model& model, cpu::ThreadPool& pool, bool fresh);
  static void detach(Model& model);

  // Where gradients go, [parameters]; a magnitude's comes as the sum of dy * y (finish_gradients).
  void learn(std::span<float> gradients);
  // What input_proj's adapter adds is rounded to float16 (Adapter::half).
  void round_input();
  // Only the first `count` ranks of each adapter learn from here on.
  void learn_ranks(std::size_t count);
  std::size_t ranks_learning() const { return ranks_learning_; }

  // After values changed: DoRA's norms. `compat`: with the original's cross term, half of the right one.
  void refresh(cpu::ThreadPool& pool, bool compat = false);
  // Sums of dy * y become gradients of magnitudes. `compat`: and the norms' part that the original differentiates is
  // added to A's and B's.
  void finish_gradients(cpu::ThreadPool& pool, bool compat = false);

 private:
  struct One {  // an adapter's DoRA side
    Weight weight;
    std::span<float> squares, columns, norms;  // [out]: ||W||^2, m / norm, norm
    std::size_t a = 0, b = 0, m = 0;           // in tensors_
  };
  void bind();
  void add_norm_gradients(cpu::ThreadPool& pool, std::size_t adapter);

  AdapterShape shape_;
  std::vector<AdapterTensor> tensors_;
  std::span<float> values_, gradients_, scale_;
  std::vector<Adapter> adapters_;
  std::vector<One> ones_;
  std::size_t ranks_learning_ = 0;
};

}  // namespace axon
