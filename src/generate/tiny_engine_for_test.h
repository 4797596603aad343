#pragma once
// For tests: the small random model with a tokenizer beside it, planned and started as the program does.

#include <memory>
#include <string>

#include "generate/engine.h"
#include "model/tiny_model_for_test.h"
#include "tokenizer/tokenizer_file_for_test.h"

namespace axon::testing_model {

// 256 bytes, two merges ("th", "the") and two special tokens: 260 ids. The model has room for 300.
inline constexpr std::uint64_t kTokens = 260, kRows = 300;
inline constexpr std::uint32_t kThe = 257, kImEnd = 258;

inline Config engine_config() {
  Config config = tiny_config();
  config.vocab_size = kRows;
  return config;
}

inline std::string tokenizer_json() {
  testing::TokenizerFile file;
  file.merges = {{"t", "h"}, {"th", "e"}};
  file.added = {"<|im_end|>", "<|endoftext|>"};
  return file.json();
}

class EngineFolder {
 public:
  explicit EngineFolder(const Config& config = engine_config(), const WeightFormat& format = {}) {
    put_model(folder_, config, tiny_tensors(config, 1, format));
    put_file(folder_ / "tokenizer.json", json_);
  }
  const std::string& path() const { return folder_.path(); }
  const TokenizerShape& shape() const { return shape_; }
  ModelFiles files() const { return ok(open_model(path())); }
  EnginePlan plan(const EngineOptions& options) const { return ok(Engine::plan(files(), &shape_, options)); }
  Result<std::unique_ptr<Engine>> create(const EngineOptions& options, Bytes limit) const {
    ModelFiles opened = files();
    const EnginePlan plan = ok(Engine::plan(opened, &shape_, options));
    return Engine::create(std::move(opened), &shape_, json_, plan, options, limit);
  }
  std::unique_ptr<Engine> create(const EngineOptions& options = small_options()) const {
    return ok(create(options, 1_GiB));
  }
  static EngineOptions small_options() {
    return {.weights = {},
            .session = {.context = 200, .prefill_chunk = 32, .arithmetic = Arithmetic::kExact, .logits_rows = 1},
            .sampling = {.temperature = 0.0f},
            .threads = 1,
            .text = 1_KiB};
  }

 private:
  Folder folder_;
  std::string json_ = tokenizer_json();
  TokenizerShape shape_ = ok(Tokenizer::measure(json_, "tokenizer.json"));
};

}  // namespace axon::testing_model
