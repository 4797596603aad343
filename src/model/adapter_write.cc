// Writing adapters.

#include <algorithm>
#include <map>

#include "model/adapter_files.h"
#include "model/adapter_names.h"

namespace axon {
namespace {

using Part = AdapterTensor::Part;

constexpr std::size_t kPieceValues = std::size_t{16} << 10;  // turned over and written at once

// "layer_3.ssm.in_proj" -> "ssm.in_proj", which mlx-lm looks for in every layer.
std::string key_of(const std::string& name) {
  if (!name.starts_with("layer_")) return name;
  return name.substr(name.find('.') + 1);
}

// The tensors of a file, and where in it each of the set's goes.
struct Layout {
  std::vector<TensorHeader> headers;
  struct Place {
    std::size_t tensor = 0;
    std::uint64_t offset = 0;  // bytes
    bool transposed = false;
  };
  std::vector<Place> places;  // as AdapterSet::tensors()
};

Layout lay_out(const AdapterSet& set, AdapterForm form) {
  const bool peft = form == AdapterForm::kPeft;
  Layout layout;
  std::map<std::string, std::size_t> known;
  for (const AdapterTensor& t : set.tensors()) {
    const AdaptedLinear& linear = set.shape().linears[t.linear];
    const bool stack = linear.experts != 0, stacked = stack && !peft;
    const bool transposed = t.part == Part::kA ? !peft && !stack : t.part == Part::kB && (peft || stack);
    AdapterName name{.layer = linear.name, .part = t.part};
    if (stack && peft) name.expert = t.expert;
    const std::string written = to_string(form, name);
    const auto [at, added] = known.try_emplace(written, layout.headers.size());
    if (added) {
      std::vector<std::uint64_t> dims;
      if (stacked) dims.push_back(linear.experts);
      if (t.part == Part::kMagnitude) {
        dims.push_back(t.cols);
      } else {
        dims.insert(dims.end(), {transposed ? t.cols : t.rows, transposed ? t.rows : t.cols});
      }
      layout.headers.push_back({written, DType::kF32, Shape::create(dims).value()});  // as large as what is held
    }
    layout.places.push_back({at->second, t.expert * (stacked ? t.size() * sizeof(float) : 0), transposed});
  }
  return layout;
}

Status write_tensor(SafetensorsWriter& writer, const Layout::Place& place, const AdapterTensor& t,
                    std::span<const float> values) {
  if (!place.transposed) return writer.write_at(place.tensor, place.offset, std::as_bytes(values));
  std::vector<float> piece;
  const std::size_t step = std::max<std::size_t>(1, kPieceValues / t.rows);
  for (std::size_t first = 0; first < t.cols; first += step) {
    piece.clear();
    for (std::size_t c = first; c < std::min(first + step, t.cols); ++c) {
      for (std::size_t r = 0; r < t.rows; ++r) piece.push_back(values[r * t.cols + c]);
    }
    AXON_TRY(writer.write_at(place.tensor, place.offset + first * t.rows * sizeof(float),
                             std::as_bytes(std::span<const float>(piece))));
  }
  return Ok{};
}

Status write_weights(const std::string& path, const AdapterSet& set, AdapterForm form, const Config& config,
                     Existing existing) {
  const Layout layout = lay_out(set, form);
  std::map<std::string, std::string> metadata = {{"format", form == AdapterForm::kPeft ? "pt" : "mlx"}};
  if (config.kv_rotated) metadata["kv_rotation"] = kKvRotationName;
  if (form == AdapterForm::kOriginal) metadata["scale"] = fmt::format("{}", set.shape().scale);
  SafetensorsWriter writer = AXON_TRY(SafetensorsWriter::create(path, layout.headers, metadata, existing));
  for (std::size_t i = 0; i < set.tensors().size(); ++i) {
    AXON_TRY(write_tensor(writer, layout.places[i], set.tensors()[i], set.values_of(set.tensors()[i])));
  }
  return writer.finish();
}

// The rank that most layers have; the others are patterns of PEFT's.
std::size_t common_rank(const AdapterShape& shape) {
  std::map<std::size_t, std::size_t> counts;
  for (const AdaptedLinear& linear : shape.linears) ++counts[linear.rank];
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

Result<AdapterConfigText> describe(const AdapterSet& set, AdapterForm form, const Config& config,
                                   const AdapterNotes& notes) {
  const AdapterShape& shape = set.shape();
  AdapterConfigText text;
  AdapterConfig& c = text.config;
  c.form = form;
  c.dora = shape.kind == AdapterKind::kDora;
  c.rank = common_rank(shape);
  c.scale = double{shape.scale};
  c.alpha = c.scale * static_cast<double>(c.rank);
  c.dropout = notes.dropout;
  c.base_model = notes.base_model;
  text.layers = config.num_layers;
  for (const AdaptedLinear& linear : shape.linears) {
    const bool peft = form == AdapterForm::kPeft;
    const std::string key = peft ? linear.name : key_of(linear.name);
    if (!peft && std::ranges::find(text.targets, key) != text.targets.end()) continue;
    for (std::size_t e = 0; e < (peft ? linear.count() : 1); ++e) {
      const std::string module = peft && linear.experts != 0 ? fmt::format("{}.experts.{}", key, e) : key;
      text.targets.push_back(module);
    }
  }
  for (const AdaptedLinear& linear : shape.linears) {
    if (linear.rank == c.rank) continue;
    if (form == AdapterForm::kMlxLm) {
      return make_error(ErrorCode::kUnsupported,
                        "{} has rank {} and others {}: mlx-lm has one rank for all, write the adapter for PEFT",
                        linear.name, linear.rank, c.rank);
    }
    for (std::size_t e = 0; e < linear.count(); ++e) {
      const std::string module = linear.experts != 0 ? fmt::format("{}.experts.{}", linear.name, e) : linear.name;
      c.rank_pattern.emplace_back(module, static_cast<double>(linear.rank));
      c.alpha_pattern.emplace_back(module, c.scale * static_cast<double>(linear.rank));
    }
  }
  return text;
}

}  // namespace

Status write_adapter_into(const std::string& folder, const AdapterSet& set, AdapterForm form, const Config& config,
                          const AdapterNotes& notes, Existing existing) {
  AXON_CHECK(!set.shape().linears.empty());
  const char* weights = form == AdapterForm::kPeft ? "/adapter_model.safetensors" : "/adapters.safetensors";
  if (form != AdapterForm::kOriginal) {
    const AdapterConfigText text = AXON_TRY(describe(set, form, config, notes));
    AXON_TRY(write_file(folder + "/adapter_config.json", to_json(text), existing));
  }
  return write_weights(folder + weights, set, form, config, existing);
}

Status write_adapter(const std::string& path, const AdapterSet& set, AdapterForm form, const Config& config,
                     const AdapterNotes& notes, Existing existing) {
  AXON_CHECK(!set.shape().linears.empty());
  if (form == AdapterForm::kOriginal) return write_weights(path, set, form, config, existing);
  AtomicDirectory folder = AXON_TRY(AtomicDirectory::create(path, existing));
  AXON_TRY(write_adapter_into(folder.path(), set, form, config, notes));
  return folder.finish();
}

}  // namespace axon
