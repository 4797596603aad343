#include "architectures/known_models.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <numeric>
#include <string>
#include <utility>

#include "architectures/known_models_parts.h"

namespace axon {
namespace {

constexpr std::size_t kMaxName = 96;  // longer than any name; bounds the work on other input
constexpr std::size_t kMaxSimilar = 5;
constexpr std::array<std::string_view, 7> kVariants{"instruct", "it", "chat", "hf", "base", "pt", "latest"};

bool separates(char c) { return c == '-' || c == '_' || c == ':' || c == ' '; }

// Letters, digits and dots in lower case: "meta-llama/Llama-3.1-8B-Instruct" and "llama3.1:8b" become "llama3.18b".
std::string key_of(std::string_view name) {
  name = name.substr(name.rfind('/') + 1);  // npos + 1 is 0
  std::vector<std::string> words(1);
  for (const char c : name.substr(0, kMaxName)) {
    if (separates(c)) {
      words.emplace_back();
    } else {
      words.back() += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
  }
  while (words.size() > 1 && std::find(kVariants.begin(), kVariants.end(), words.back()) != kVariants.end()) {
    words.pop_back();
  }
  if (words.size() > 1 && words.front() == "meta") words.erase(words.begin());
  return std::accumulate(words.begin(), words.end(), std::string());
}

std::vector<std::string> keys_of(const KnownModel& model) {
  std::vector<std::string> keys{key_of(model.name)};
  for (std::string_view rest = model.also; !rest.empty();) {
    const std::size_t end = std::min(rest.find(' '), rest.size());
    keys.push_back(key_of(rest.substr(0, end)));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return keys;
}

// Letters to insert, remove or replace.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

// Two typing errors in six letters are near; so is a name that was not finished ("llama-3.1").
bool near(std::string_view typed, std::string_view key, std::size_t distance) {
  return distance <= std::max<std::size_t>(1, typed.size() / 3) || (typed.size() >= 3 && key.starts_with(typed));
}

}  // namespace

const std::vector<KnownModel>& known_models() {
  static const std::vector<KnownModel> all = [] {
    std::vector<KnownModel> out = known_attention_models();
    for (const KnownModel& model : known_recurrent_models()) out.push_back(model);
    return out;
  }();
  return all;
}

const KnownModel* find_known_model(std::string_view name) {
  const std::string key = key_of(name);
  for (const KnownModel& model : known_models()) {
    for (const std::string& known : keys_of(model)) {
      if (known == key) return &model;
    }
  }
  return nullptr;
}

std::vector<std::string_view> similar_known_models(std::string_view name) {
  const std::string key = key_of(name);
  std::vector<std::pair<std::size_t, std::string_view>> found;
  for (const KnownModel& model : known_models()) {
    std::size_t best = kMaxName;
    for (const std::string& known : keys_of(model)) {
      const std::size_t distance = edit_distance(key, known);
      if (near(key, known, distance)) best = std::min(best, distance);
    }
    if (best < kMaxName) found.emplace_back(best, model.name);
  }
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string_view> names;
  for (std::size_t i = 0; i < std::min(found.size(), kMaxSimilar); ++i) names.push_back(found[i].second);
  return names;
}

}  // namespace axon
