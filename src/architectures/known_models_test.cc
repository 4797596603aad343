#include "architectures/known_models.h"

#include <cmath>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "architectures/architecture.h"
#include "io/json_value.h"

namespace axon {
namespace {

Architecture read_known(const KnownModel& model) {
  Result<JsonValue> config = read_json_value(model.config, model.name);
  if (!config.ok()) {
    ADD_FAILURE() << config.error().message;
    return {};
  }
  Result<Architecture> shape = read_architecture(config.value(), model.name);
  if (!shape.ok()) {
    ADD_FAILURE() << shape.error().message;
    return {};
  }
  return std::move(shape).value();
}

// What one step of the last published digit is worth: 0.1e9 for "46.7B", 1e10 for "70B".
double last_digit(double published, int digits) {
  return std::pow(10.0, std::floor(std::log10(published)) - (digits - 1));
}

bool rounds_to(double count, double published, int digits) {
  return std::abs(count - published) <= last_digit(published, digits) / 2;
}

bool is_cut_to(double count, double published, int digits) {
  return count >= published && count < published + last_digit(published, digits);
}

double without_embedding(const Architecture& shape, double parameters) {
  for (const TensorGroup& group : shape.tensors) {
    if (group.part == Part::kEmbedding && group.matrix) parameters -= static_cast<double>(group.elements());
  }
  return parameters;
}

TEST(KnownModels, CountWhatTheirMakersPublish) {
  int precise = 0;
  for (const KnownModel& model : known_models()) {
    SCOPED_TRACE(model.name);
    const double count = static_cast<double>(read_known(model).parameters().total);
    const double published = model.published_parameters;
    if (model.significant_digits >= 3) {
      EXPECT_NEAR(count / published, 1.0, 0.005) << count << " published as " << model.published_as;
      ++precise;
    } else {
      EXPECT_TRUE(rounds_to(count, published, model.significant_digits)) << count << ", " << model.published_as;
    }
  }
  EXPECT_GE(precise, 12);
}

// The paper of RWKV-7 gives every parameter; the indices of the others' files give every byte, two for each parameter.
TEST(KnownModels, ExactClaimsAreMetExactly) {
  for (const char* name : {"rwkv-7-0.4b", "rwkv-7-1.5b", "rwkv-7-2.9b", "llama-3.1-8b", "llama-3.1-70b",
                           "mistral-7b-v0.3", "qwen2.5-32b", "phi-4"}) {
    const KnownModel* model = find_known_model(name);
    ASSERT_NE(model, nullptr) << name;
    EXPECT_EQ(static_cast<double>(read_known(*model).parameters().total), model->published_parameters) << name;
  }
}

// Without the embedding where their makers leave it out, as gpt-oss's model card says: "unembedding parameters are
// counted towards active, but not embeddings".
TEST(KnownModels, CountWhatOneTokenUses) {
  int published = 0;
  for (const KnownModel& model : known_models()) {
    if (model.published_active == 0) continue;
    SCOPED_TRACE(model.name);
    const Architecture shape = read_known(model);
    double active = static_cast<double>(shape.parameters().active);
    EXPECT_LT(active, static_cast<double>(shape.parameters().total));
    if (model.active_without_embedding) active = without_embedding(shape, active);
    EXPECT_TRUE(rounds_to(active, model.published_active, model.active_digits) ||
                is_cut_to(active, model.published_active, model.active_digits))
        << active << " published as " << model.published_as;
    ++published;
  }
  EXPECT_GE(published, 9);
}

TEST(KnownModels, HaveNamesTitlesAndSources) {
  std::set<std::string_view> names, titles;
  for (const KnownModel& model : known_models()) {
    SCOPED_TRACE(model.name);
    EXPECT_TRUE(names.insert(model.name).second);
    EXPECT_TRUE(titles.insert(model.title).second);
    EXPECT_TRUE(model.source.starts_with("https://"));
    EXPECT_FALSE(model.published_as.empty());
    EXPECT_GE(model.significant_digits, 1);
    EXPECT_EQ(model.published_active == 0, model.active_digits == 0);
    EXPECT_EQ(find_known_model(model.name), &model);
  }
  EXPECT_GE(names.size(), 30u);
}

TEST(KnownModels, CoverEveryFamilyThatTheyCan) {
  std::set<std::string> families;
  for (const KnownModel& model : known_models()) families.insert(read_known(model).family);
  for (const char* family :
       {"llama", "mistral",          "mixtral",     "qwen2",       "qwen3", "qwen3_moe", "gemma2",
        "phi3",  "gpt_oss",          "deepseek_v2", "deepseek_v3", "mamba", "mamba2",    "falcon_mamba",
        "jamba", "granitemoehybrid", "rwkv",        "rwkv5",       "rwkv6", "rwkv7"}) {
    EXPECT_TRUE(families.contains(family)) << family;
  }
}

TEST(KnownModels, AreFoundByTheSpellingsThatPeopleUse) {
  const std::map<std::string_view, std::string_view> spellings{
      {"llama3.1:8b", "llama-3.1-8b"},
      {"LLAMA_3.1_8B", "llama-3.1-8b"},
      {"meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"},
      {"meta-llama/Meta-Llama-3.1-70B-Instruct", "llama-3.1-70b"},
      {"meta-llama/Llama-2-7b-chat-hf", "llama-2-7b"},
      {"TinyLlama/TinyLlama-1.1B-Chat-v1.0", "tinyllama-1.1b"},
      {"Qwen/Qwen3-0.6B", "qwen3-0.6b"},
      {"qwen3:0.6b", "qwen3-0.6b"},
      {"Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b"},
      {"openai/gpt-oss-20b", "gpt-oss-20b"},
      {"gpt-oss:20b", "gpt-oss-20b"},
      {"google/gemma-3-270m-it", "gemma-3-270m"},
      {"gemma3:12b", "gemma-3-12b"},
      {"mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b-v0.3"},
      {"mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b"},
      {"microsoft/Phi-3-mini-4k-instruct", "phi-3-mini"},
      {"phi4", "phi-4"},
      {"deepseek-ai/DeepSeek-V2-Lite-Chat", "deepseek-v2-lite"},
      {"ibm-granite/granite-4.0-h-tiny-base", "granite-4.0-h-tiny"},
      {"RWKV/v5-Eagle-7B-HF", "rwkv-5-7b"},
      {"fla-hub/rwkv7-1.5B-world", "rwkv-7-1.5b"},
  };
  for (const auto& [typed, name] : spellings) {
    const KnownModel* model = find_known_model(typed);
    ASSERT_NE(model, nullptr) << typed;
    EXPECT_EQ(model->name, name) << typed;
  }
}

TEST(KnownModels, AreNotGuessed) {
  for (const char* typed : {"", "-", "/", "llama", "llama-3.1", "llama-3.1-80b", "qwen3", "qwen3-0.6", "7b", "instruct",
                            "gpt-oss-20b/", "phi-40", "Qwen3-TTS-0.6B", "mistral-7b-v0.1"}) {
    EXPECT_EQ(find_known_model(typed), nullptr) << typed;
  }
  EXPECT_EQ(find_known_model(std::string(1'000'000, 'a')), nullptr);
}

TEST(KnownModels, NamesThatWereMeantAreOffered) {
  const auto first = [](std::string_view typed) {
    const std::vector<std::string_view> names = similar_known_models(typed);
    return names.empty() ? std::string_view() : names.front();
  };
  EXPECT_EQ(first("lama-3.1-8b"), "llama-3.1-8b");
  EXPECT_EQ(first("gpt-os-20b"), "gpt-oss-20b");
  EXPECT_EQ(first("Qwen/Qwen3-TTS-0.6B"), "qwen3-0.6b");
  EXPECT_EQ(first("deepseek-v3.1"), "deepseek-v3");
  EXPECT_EQ(first("mistral-7b-v0.1"), "mistral-7b-v0.3");

  const std::vector<std::string_view> unfinished = similar_known_models("llama-3.2");
  const std::set<std::string_view> offered(unfinished.begin(), unfinished.end());
  EXPECT_TRUE(offered.contains("llama-3.2-1b"));
  EXPECT_TRUE(offered.contains("llama-3.2-3b"));

  EXPECT_LE(similar_known_models("qwen").size(), 5u);
  EXPECT_EQ(similar_known_models("qwen").size(), 5u);
  EXPECT_TRUE(similar_known_models("").empty());
  EXPECT_TRUE(similar_known_models("./config.json").empty());
  EXPECT_TRUE(similar_known_models(std::string(1'000'000, 'a')).empty());
}

}  // namespace
}  // namespace axon
