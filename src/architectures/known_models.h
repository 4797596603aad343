#pragma once
// Public models that can be named instead of pointed at: their published shapes, and what their makers say they count.

#include <string_view>
#include <vector>

namespace axon {

struct KnownModel {
  std::string_view name;    // as typed: "llama-3.1-8b", "qwen3-0.6b", "gpt-oss-20b"
  std::string_view title;   // "Llama 3.1 8B"
  std::string_view config;  // config.json as published, the fields that shape the model; read_architecture reads it
  double published_parameters = 0;
  int significant_digits = 0;     // of that number: "235B" has three, "70B" one
  std::string_view published_as;  // the makers' words: "1B (1.23B)"
  std::string_view source;        // URL of the page or paper with these words
  std::string_view also = {};     // other names it goes by, separated by spaces
  // Parameters that take part in one token, where the makers publish them; 0: they do not. Some round, some cut.
  double published_active = 0;
  int active_digits = 0;
  bool active_without_embedding = false;  // they leave the input embedding out of that number
};

const std::vector<KnownModel>& known_models();

// Case does not matter, nor do an organization before '/', the separators ("llama3.1:8b"), or a variant of the same
// shape behind it ("-Instruct", "-it", "-hf"). Null when unknown: a size or a version is never guessed.
const KnownModel* find_known_model(std::string_view name);

// Names that may have been meant, the likeliest first; at most five, none when nothing is near.
std::vector<std::string_view> similar_known_models(std::string_view name);

}  // namespace axon
