// inspect: what a model's files hold, from headers alone.

#include <map>

#include "cli/common.h"

namespace axon::cli {
namespace {

std::string form_of(const StoredTensor& stored) {
  if (stored.affine.bits == 0) return std::string(name_of(stored.dtype));
  return fmt::format("q{} g{} ({} scales)", stored.affine.bits, stored.affine.group_size,
                     name_of(stored.affine.scale_dtype));
}

Bytes bytes_of(const StoredTensor& stored) {
  Bytes sum;
  for (const auto& part : stored.parts) sum += Bytes{part.size()};
  return sum;
}

struct Row {
  std::string name, shape, form;
  std::uint64_t parameters;
  Bytes bytes;
};

Json inspect_json(const ModelFiles& files, const std::vector<Row>& rows, const std::map<std::string, Row>& forms,
                  Bytes total) {
  Json tensors = Json::array(), precisions = Json::array();
  for (const Row& row : rows) {
    tensors.push_back({{"name", row.name},
                       {"shape", Json::parse(row.shape)},
                       {"precision", row.form},
                       {"parameters", row.parameters},
                       {"bytes", row.bytes.count}});
  }
  for (const auto& [form, row] : forms) {
    precisions.push_back({{"precision", form}, {"parameters", row.parameters}, {"bytes", row.bytes.count}});
  }
  const ParameterCount count = count_parameters(files.config);
  Json layers = Json::array();
  for (const LayerKind kind : layer_kinds(files.config)) layers.push_back(name_of(kind));
  return {{"model", files.folder},
          {"config", Json::parse(to_json(files.config))},
          {"layers", std::move(layers)},
          {"parameters", count.total},
          {"active_parameters", count.active},
          {"bytes", total.count},
          {"precisions", std::move(precisions)},
          {"files", files.tensors.paths()},
          {"tensors", std::move(tensors)}};
}

Result<int> execute(const InspectOptions& options) {
  const ModelFiles files = AXON_TRY(open_model(options.model.empty() ? default_model() : options.model));
  std::set<std::string, std::less<>> used;
  std::vector<Row> rows;
  std::map<std::string, Row> forms;
  Bytes total;
  for (const TensorSpec& spec : tensor_list(files.config)) {
    const StoredTensor stored = AXON_TRY(find_stored(spec, files.tensors, used));
    if (stored.file == nullptr) continue;
    rows.push_back({spec.full_name(), to_string(spec.shape), form_of(stored), spec.shape.elements(), bytes_of(stored)});
    Row& form = forms[form_of(stored)];
    form.parameters += spec.shape.elements();
    form.bytes += bytes_of(stored);
    total += bytes_of(stored);
  }
  AXON_TRY(check_all_used(files.tensors, used));
  if (options.json) {
    fmt::print("{}\n", inspect_json(files, rows, forms, total).dump(2));
    return kExitOk;
  }
  const ParameterCount count = count_parameters(files.config);
  fmt::print("{}\n\n{}\n", bold(files.folder), to_json(files.config));
  std::string layers;
  for (const LayerKind kind : layer_kinds(files.config))
    layers += fmt::format("{}{}", layers.empty() ? "" : " ", name_of(kind));
  fmt::print("layers      {}\n", layers);
  fmt::print("parameters  {} total, {} active a token ({:.1f} %)\n", count.total, count.active,
             100.0 * static_cast<double>(count.active) / static_cast<double>(count.total));
  fmt::print("tensors     {} in {} file{}, {}\n\n", rows.size(), files.tensors.paths().size(),
             files.tensors.paths().size() == 1 ? "" : "s", to_string(total));
  for (const auto& [form, row] : forms) {
    fmt::print("  {:<22} {:>14} parameters {:>12}  {:.2f} bits each\n", form, row.parameters, to_string(row.bytes),
               8.0 * static_cast<double>(row.bytes.count) / static_cast<double>(row.parameters));
  }
  if (options.tensors) {
    fmt::print("\n");
    for (const Row& row : rows)
      fmt::print("  {:<44} {:<20} {:<20} {:>12}\n", row.name, row.shape, row.form, to_string(row.bytes));
  } else {
    fmt::print("\n--tensors lists them\n");
  }
  return kExitOk;
}

}  // namespace

int inspect_command(const InspectOptions& options) {
  Result<int> status = execute(options);
  return status.ok() ? status.value() : report(status.error());
}

}  // namespace axon::cli
