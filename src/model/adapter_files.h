#pragma once
// Adapters in files: PEFT's, mlx-lm's, and those of the original (docs/adapters.md).
//   PEFT      base_model.model.<name>.lora_A.weight [R, in], .lora_B.weight [out, R], .lora_magnitude_vector [out];
//             of a stack of experts one each: <name>.experts.3.lora_A.weight
//   mlx-lm    <name>.lora_a [in, R], .lora_b [R, out], .m [out]; of a stack: [X, R, in], [X, out, R], [X, out]
//   original  as mlx-lm, maybe behind "inner.", without a config
// Metadata that this program adds: "kv_rotation" when attention's adapters are in the rotated basis of a model whose
// config has it; in the original's form "scale".

#include <optional>
#include <string>
#include <vector>

#include "io/atomic_file.h"
#include "io/safetensors.h"
#include "model/adapter_config.h"
#include "model/adapters.h"
#include "model/config.h"

namespace axon {

// What the original multiplies by where nothing says otherwise.
inline constexpr double kOriginalScale = 20.0;

// `path`: a folder, or a .safetensors file in one. kNotFound says what was looked for.
Result<AdapterForm> detect_adapter(const std::string& path);

// An adapter that fits a model. Opening reads every value once, and keeps none.
class AdapterFiles {
 public:
  // `scale`: instead of what the files say. kNotFound; kCorrupt, kUnsupported as parse_adapter_config; kCorrupt names a
  // tensor, what was expected and what came: names that the model does not have, shapes, types, halves without the
  // other, ranks that differ, values that are not finite. kUnsupported for DoRA of q, k or v in another basis than the
  // model's.
  static Result<AdapterFiles> open(const std::string& path, const Config& config, std::optional<double> scale = {});

  AdapterForm form() const { return form_; }
  const AdapterShape& shape() const { return shape_; }  // layers in the order of the tensor list
  const std::string& path() const { return path_; }     // the .safetensors file
  double dropout() const { return dropout_; }           // as it was trained
  // The account of AdapterSet for this shape.
  Bytes bytes() const;
  // Of names, values and scale: tells one adapter from another.
  std::uint64_t digest() const;

  // Fills the values of a set of this shape. Layers of another scale than the shape's have the ratio in B.
  void load(AdapterSet& set) const;

 private:
  // Where a tensor of AdapterSet comes from.
  struct Source {
    const TensorView* view = nullptr;
    std::uint64_t first = 0;  // element
    bool transposed = false;
    float factor = 1.0f;
    bool rotate = false;  // each head's part of each row
  };
  friend class AdapterReader;
  AdapterFiles() = default;

  AdapterForm form_ = AdapterForm::kPeft;
  std::string path_;
  double dropout_ = 0;
  AdapterShape shape_;
  Safetensors tensors_;
  std::vector<Source> sources_;  // as AdapterSet::tensors()
  std::size_t head_dim_ = 0;
  bool model_rotated_ = false;
};

struct AdapterNotes {
  std::string base_model = {};  // where it was trained, UTF-8
  double dropout = 0;
};
// Into a folder that is there: adapter_config.json and the weights, or, in the original's form, adapters.safetensors;
// each file whole. `config` is the model's. kUnsupported for several ranks in mlx-lm's form; kInvalidArgument for a
// file that is there (not with kReplace); kIo.
Status write_adapter_into(const std::string& folder, const AdapterSet& set, AdapterForm form, const Config& config,
                          const AdapterNotes& notes, Existing existing = Existing::kRefuse);
// A folder that appears whole, or, in the original's form, such a file.
Status write_adapter(const std::string& path, const AdapterSet& set, AdapterForm form, const Config& config,
                     const AdapterNotes& notes, Existing existing = Existing::kRefuse);

}  // namespace axon
