#pragma once
// Model: weights in memory and the forward pass over them. Const once loaded; all that changes lives in SequenceState
// and ModelWorkspace.

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cpu/thread_pool.h"
#include "memory/arena.h"
#include "model/stored.h"
#include "state/sequence_state.h"

namespace axon {

// Where every tensor will lie and what it will take, decided from headers alone. The plan prints it; load executes it.
struct WeightsPlan {
  struct Item {
    TensorSpec spec;
    StoredTensor stored{};
    DType dtype = DType::kF32;  // the form to be held, as in StoredTensor
    Affine affine{};
    bool in_place = false;  // used where the file is mapped
  };
  std::vector<Item> items;  // in the order of the tensor list
  struct Zone {
    std::string account;
    Bytes mapped{};     // used in place
    Bytes converted{};  // copied, converted or transposed into an arena
    Bytes bytes() const { return mapped + converted; }
  };
  std::vector<Zone> zones;            // in the order of their first tensor
  Bytes conversion;                   // row buffers while loading; none when nothing is converted between formats
  std::uint64_t parameters_held = 0;  // elements of all items: a head apart from the embedding counts
};

// Checks names, shapes and types against the config (kCorrupt), and reads nothing but headers.
// `threads` is how many will convert.
Result<WeightsPlan> plan_weights(const Config& config, const Safetensors& file, const WeightFormat& want,
                                 std::size_t threads);

// The activations of one call.
struct ModelWorkspace {
  Mat<float> source;  // [T, S]
  Mat<float> x;       // [T, D] residual stream
  Mat<float> h;       // [T, R] of the projections' adapters
  BlockScratch block;
  ModelWorkspace() = default;
  ModelWorkspace(Carver& carver, std::size_t tokens_max, const Config& config, const AdapterNeeds& needs = {});
};

BlockShape block_shape(const Config& config);
// One entry a layer. A ring holds the window, or the whole context when that is shorter.
std::vector<LayerStateShape> state_shapes(const Config& config, std::size_t context);

class Model {
 public:
  // Called now and then while weights are read; false stops the load (kCancelled).
  using Progress = std::function<bool(std::size_t tensors_done, std::size_t tensors)>;

  // Reserves each zone's account, maps or converts every tensor, and checks that all values are finite.
  static Result<Model> load(const Config& config, Safetensors file, const WeightsPlan& plan, Ledger& ledger,
                            cpu::ThreadPool& pool, const Progress& progress = {});

  const Config& config() const { return config_; }
  const ModelWeights& weights() const { return weights_; }
  // f(name, linear) for every matrix that an adapter may sit on, by its name in the tensor list, in that order.
  void each_linear(const std::function<void(const std::string&, Linear&)>& f);
  // The longest stretch of memory that weights fill, starting at a multiple of 64: for measuring how fast this machine
  // reads, with no memory for that alone.
  std::span<const std::byte> largest_block() const { return largest_block_; }

  // Runs `ids` (each < vocab_size, at most the workspace's tokens) through all layers after what `state` remembers, and
  // moves the state on. workspace.x holds the last layer's output, row t for ids[t].
  void forward(Device& device, std::span<const std::uint32_t> ids, SequenceState& state,
               ModelWorkspace& workspace) const;

  // logits[i] = head(workspace.x[first + i]).   logits [rows, V]
  void head(Device& device, ModelWorkspace& workspace, std::size_t first, Mat<float> logits) const;

 private:
  Model() = default;
  Config config_;
  std::unique_ptr<Safetensors> file_;
  ModelWeights weights_;
  std::vector<Reservation> mapped_;
  std::vector<Arena> arenas_;
  Arena conversion_;
  std::span<const std::byte> largest_block_;
};

}  // namespace axon
