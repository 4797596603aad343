// Planning and loading of weights: one walk decides, the other executes what was decided.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "model/model.h"
#include "quant/affine.h"

namespace axon {
namespace {

// The memory of one tensor in its zone's arena. Over a measuring Carver: what the tensor needs.
struct Home {
  std::array<std::span<std::byte>, 3> parts{};  // matrices: values or codes, scales, biases
  std::span<float> values;                      // the rest
};

Home carve_home(const WeightsPlan::Item& item, Carver& carver) {
  Home home;
  if (item.in_place || item.stored.file == nullptr) return home;
  if (!item.spec.is_matrix()) {
    home.values = carver.span<float>(item.spec.shape.elements());
    return home;
  }
  const auto bytes = matrix_bytes(item.spec.rows(), item.spec.cols(), item.dtype, item.affine);
  for (std::size_t i = 0; i < 3; ++i) {
    if (bytes[i] != 0) home.parts[i] = carver.span<std::byte>(bytes[i]);
  }
  return home;
}

bool same_form(const WeightsPlan::Item& item) { return item.stored.has_form(item.dtype, item.affine); }

// Rows of float32 that conversion needs: one of the longest row for each thread.
std::span<float> carve_rows(const WeightsPlan& plan, std::size_t threads, Carver& carver) {
  std::uint64_t cols = 0;
  for (const WeightsPlan::Item& item : plan.items) {
    if (item.spec.is_matrix() && item.stored.file != nullptr && !same_form(item)) {
      cols = std::max(cols, item.spec.cols());
    }
  }
  return cols == 0 ? std::span<float>{} : carver.span<float>(cols * threads);
}

Weight weight_at(const WeightsPlan::Item& item, const Home& home) {
  Weight w{.data = home.parts[0].data(),
           .rows = item.spec.rows(),
           .cols = item.spec.cols(),
           .dtype = item.dtype,
           .affine = item.affine};
  w.affine.scales = home.parts[1].data();
  w.affine.biases = home.parts[2].data();
  return w;
}

void encode_into(const Weight& to, std::size_t r, std::span<const float> row) {
  auto* data = static_cast<std::byte*>(const_cast<void*>(to.data)) + r * to.row_bytes();
  if (!to.quantised()) {
    for (std::size_t i = 0; i < row.size(); ++i) store_float(to.dtype, data, i, row[i]);
    return;
  }
  const std::size_t at = r * to.groups() * size_of(to.affine.scale_dtype);
  affine::encode_row(row, to.affine.bits, to.affine.group_size, to.affine.scale_dtype, data,
                     static_cast<std::byte*>(const_cast<void*>(to.affine.scales)) + at,
                     static_cast<std::byte*>(const_cast<void*>(to.affine.biases)) + at);
}

// Converts in blocks of rows and drops the source's pages behind it, so that at no time both forms are whole in memory.
void convert(const Weight& from, const StoredTensor& stored, const Weight& to, std::span<float> rows,
             cpu::ThreadPool& pool) {
  const std::size_t block =
      std::max<std::size_t>(pool.size(), (std::size_t{4} << 20) / std::max<std::size_t>(1, from.row_bytes()));
  for (std::size_t first = 0; first < from.rows; first += block) {
    const std::size_t count = std::min(block, from.rows - first);
    pool.split(count, 1, [&](std::size_t begin, std::size_t end, std::size_t thread) {
      const std::span<float> row = rows.subspan(thread * from.cols, from.cols);
      for (std::size_t r = first + begin; r < first + end; ++r) {
        affine::decode_row(from, r, 0, row);
        encode_into(to, r, row);
      }
    });
    stored.file->drop(stored.parts[0].subspan(0, (first + count) * from.row_bytes()));
  }
}

std::span<const float> load_values(const WeightsPlan::Item& item, std::span<float> out) {
  const std::uint64_t outer = item.spec.shape[0], inner = item.spec.shape.elements() / outer;
  const bool transposed = item.spec.use == TensorUse::kConvTaps || item.spec.use == TensorUse::kALog;
  for (std::uint64_t i = 0; i < outer; ++i) {
    for (std::uint64_t j = 0; j < inner; ++j) {
      const float value = load_float(item.stored.dtype, item.stored.parts[0].data(), i * inner + j);
      out[transposed ? j * outer + i : i * inner + j] = item.spec.use == TensorUse::kALog ? -std::exp(value) : value;
    }
  }
  return out;
}

// Between matrices that are used in place lie vectors, which are copied and whose pages were dropped. Reading over
// short gaps brings back little: of the layers of a model some KiB each.
constexpr std::ptrdiff_t kShortGap = std::ptrdiff_t{64} << 10;

std::span<const std::byte> from_multiple_of_64(std::span<const std::byte> block) {
  const std::size_t skip = -reinterpret_cast<std::uintptr_t>(block.data()) % 64;
  return block.subspan(std::min(skip, block.size()));
}

// Of the mapped parts, those of one file that follow each other.
std::span<const std::byte> longest_mapped(const WeightsPlan& plan) {
  std::map<const MappedFile*, std::vector<std::span<const std::byte>>> files;
  for (const WeightsPlan::Item& item : plan.items) {
    if (!item.in_place) continue;
    for (const auto& part : item.stored.parts) {
      if (!part.empty()) files[item.stored.file].push_back(part);
    }
  }
  std::span<const std::byte> longest;
  for (auto& [file, parts] : files) {
    std::sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.data() < b.data(); });
    std::span<const std::byte> run;
    for (const std::span<const std::byte> part : parts) {
      const bool follows = !run.empty() && part.data() - (run.data() + run.size()) <= kShortGap;
      const std::byte* const begin = follows ? run.data() : part.data();
      run = {begin, part.data() + part.size()};
      if (run.size() > longest.size()) longest = run;
    }
  }
  return longest;
}

// Pages are mapped one after the other, which is work (1.7 GiB: 0.16 s on one thread), so all threads share it.
void populate(const MappedFile& file, std::span<const std::byte> part, cpu::ThreadPool& pool) {
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  pool.split(part.size(), kPiece,
             [&](std::size_t begin, std::size_t end, std::size_t) { file.populate(part.subspan(begin, end - begin)); });
}

}  // namespace

Result<WeightsPlan> plan_weights(const Config& config, const Safetensors& file, const WeightFormat& want,
                                 std::size_t threads) {
  WeightsPlan plan;
  std::set<std::string, std::less<>> used;
  for (const TensorSpec& spec : tensor_list(config)) {
    WeightsPlan::Item
        item;  // not a braced list with AXON_TRY in it: its return would leave the members before it behind
    item.spec = spec;
    item.stored = AXON_TRY(find_stored(spec, file, used));
    item.dtype = item.stored.dtype;
    item.affine = item.stored.affine;
    if (item.stored.file != nullptr) {
      if (spec.is_matrix()) apply_format(spec, want, item.dtype, item.affine);
      item.in_place = spec.is_matrix() && item.stored.aligned && same_form(item);
      plan.parameters_held += spec.shape.elements();
    }
    plan.items.push_back(std::move(item));
  }
  AXON_TRY(check_all_used(file, used));

  std::vector<Carver> carvers;
  for (const WeightsPlan::Item& item : plan.items) {
    std::size_t z = 0;
    while (z < plan.zones.size() && plan.zones[z].account != item.spec.zone) ++z;
    if (z == plan.zones.size()) {
      plan.zones.push_back({.account = item.spec.zone, .mapped = {}, .converted = {}});
      carvers.emplace_back();
    }
    if (item.in_place) {
      for (const auto& part : item.stored.parts) plan.zones[z].mapped += Bytes{part.size()};
    }
    carve_home(item, carvers[z]);
  }
  for (std::size_t z = 0; z < plan.zones.size(); ++z) plan.zones[z].converted = carvers[z].peak();
  Carver rows;
  carve_rows(plan, threads, rows);
  plan.conversion = rows.peak();
  return plan;
}

Result<Model> Model::load(const Config& config, Safetensors file, const WeightsPlan& plan, Ledger& ledger,
                          cpu::ThreadPool& pool, const Progress& progress) {
  Model model;
  model.config_ = config;
  model.file_ = std::make_unique<Safetensors>(std::move(file));

  std::vector<Carver> carvers;
  for (const WeightsPlan::Zone& zone : plan.zones) {
    model.mapped_.push_back(AXON_TRY(ledger.reserve(zone.account, zone.mapped)));
    model.arenas_.push_back(AXON_TRY(Arena::create(ledger, zone.account, zone.converted)));
    carvers.push_back(model.arenas_.back().carver());
  }
  model.conversion_ = AXON_TRY(Arena::create(ledger, account::kConversion, plan.conversion));
  Carver row_carver = model.conversion_.carver();
  const std::span<float> rows = carve_rows(plan, pool.size(), row_carver);

  std::size_t i = 0;
  std::optional<Error> error;
  for_each_tensor(config, model.weights_, [&](const TensorSpec& spec, TensorSlot slot) {
    if (error) return;
    const WeightsPlan::Item& item = plan.items[i++];
    if (progress && !progress(i, plan.items.size())) {
      error = Error{ErrorCode::kCancelled, "interrupted while loading"};
      return;
    }
    if (item.stored.file == nullptr) {  // a tied head that the file leaves out
      *std::get<Linear*>(slot) = model.weights_.embed_tokens;
      return;
    }
    if (Status finite = check_finite(spec, item.stored, item.in_place); !finite.ok()) {
      error = finite.error();
      return;
    }
    if (item.in_place) {
      for (const auto& part : item.stored.parts) populate(*item.stored.file, part, pool);
      *std::get<Linear*>(slot) = item.stored.weight(spec.rows(), spec.cols());
      return;
    }
    std::size_t z = 0;
    while (plan.zones[z].account != spec.zone) ++z;
    const Home home = carve_home(item, carvers[z]);
    if (spec.is_matrix()) {
      const Weight to = weight_at(item, home);
      if (same_form(item)) {
        for (std::size_t p = 0; p < 3; ++p) {
          if (!home.parts[p].empty())
            std::memcpy(home.parts[p].data(), item.stored.parts[p].data(), home.parts[p].size());
        }
      } else {
        convert(item.stored.weight(spec.rows(), spec.cols()), item.stored, to, rows, pool);
      }
      *std::get<Linear*>(slot) = to;
    } else {
      const std::span<const float> values = load_values(item, home.values);
      for (std::size_t e = 0; e < values.size() && !error; ++e) {
        if (!std::isfinite(values[e])) {
          error = make_error(ErrorCode::kCorrupt, "tensor {}: element {} gives {}, expected finite values",
                             spec.full_name(), e, values[e]);
        }
      }
      if (auto* mat = std::get_if<Mat<const float>*>(&slot)) {
        **mat = Mat<const float>(values.data(), values.size() / spec.shape[0], spec.shape[0]);
      } else {
        *std::get<std::span<const float>*>(slot) = values;
      }
    }
    for (const auto& part : item.stored.parts) {
      if (!part.empty()) item.stored.file->drop(part);
    }
  });
  if (error) return *error;
  model.largest_block_ = longest_mapped(plan);
  for (const Arena& arena : model.arenas_) {
    if (arena.size().count > model.largest_block_.size()) model.largest_block_ = {arena.data(), arena.size().count};
  }
  model.largest_block_ = from_multiple_of_64(model.largest_block_);
  return model;
}

}  // namespace axon
