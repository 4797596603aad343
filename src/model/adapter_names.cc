#include "model/adapter_names.h"

#include <charconv>

namespace axon {
namespace {

using Part = AdapterTensor::Part;

constexpr std::string_view kPeftPrefix = "base_model.model.", kWrapper = "inner.", kExperts = ".experts.";

struct Ending {
  std::string_view text;
  Part part;
};
// Of each part the first is written. PEFT has written magnitudes both ways.
constexpr Ending kPeftEndings[] = {{".lora_A.weight", Part::kA},
                                   {".lora_B.weight", Part::kB},
                                   {".lora_magnitude_vector", Part::kMagnitude},
                                   {".lora_magnitude_vector.weight", Part::kMagnitude}};
constexpr Ending kMlxEndings[] = {{".lora_a", Part::kA}, {".lora_b", Part::kB}, {".m", Part::kMagnitude}};

std::span<const Ending> endings(AdapterForm form) {
  if (form == AdapterForm::kPeft) return kPeftEndings;
  return kMlxEndings;
}

// "a.experts.12" -> "a" and 12.
void split_expert(AdapterName& name) {
  const std::size_t at = name.layer.rfind(kExperts);
  if (at == std::string::npos) return;
  const std::string_view digits = std::string_view(name.layer).substr(at + kExperts.size());
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  // One spelling of each number, so that two tensors cannot mean the same.
  if (error != std::errc() || fmt::format("{}", number) != digits) return;
  name.expert = number;
  name.layer.resize(at);
}

}  // namespace

std::optional<AdapterName> parse_adapter_name(AdapterForm form, std::string_view name) {
  const bool peft = form == AdapterForm::kPeft;
  if (peft && !name.starts_with(kPeftPrefix)) return std::nullopt;
  if (peft) name.remove_prefix(kPeftPrefix.size());
  if (!peft && name.starts_with(kWrapper)) name.remove_prefix(kWrapper.size());
  for (const Ending& ending : endings(form)) {
    if (!name.ends_with(ending.text)) continue;
    AdapterName out{.layer = std::string(name.substr(0, name.size() - ending.text.size())), .part = ending.part};
    if (peft) split_expert(out);
    return out;
  }
  return std::nullopt;
}

std::string to_string(AdapterForm form, const AdapterName& name) {
  std::string out(form == AdapterForm::kPeft ? kPeftPrefix : "");
  out += name.layer;
  if (form == AdapterForm::kPeft && name.expert) out += fmt::format("{}{}", kExperts, *name.expert);
  for (const Ending& ending : endings(form)) {
    if (ending.part == name.part) return out.append(ending.text);
  }
  return out;
}

}  // namespace axon
