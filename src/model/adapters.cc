#include "model/adapters.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "base/random.h"
#include "quant/affine.h"

namespace axon {
namespace {

using Part = AdapterTensor::Part;

const std::map<std::string, std::vector<std::string>, std::less<>>& groups() {
  static const std::map<std::string, std::vector<std::string>, std::less<>> list = {
      {"ssm", {"ssm.in_proj", "ssm.out_proj"}},
      {"attention", {"attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj"}},
      {"shared_expert", {"shared_expert.gate_proj", "shared_expert.up_proj", "shared_expert.down_proj"}},
      {"experts", {"switch_mlp.gate_proj", "switch_mlp.up_proj", "switch_mlp.down_proj"}},
      {"projections", {"input_proj", "output_proj"}},
      {"all-linear",
       {"input_proj", "output_proj", "in_proj", "x_proj", "out_proj", "q_proj", "k_proj", "v_proj", "o_proj",
        "gate_proj", "up_proj", "down_proj"}}};
  return list;
}

bool routed(std::string_view name) { return name.find("switch_mlp") != std::string_view::npos; }

// Whether `name` is `target` or ends with it at a dot; routed experts want to be named.
bool means(std::string_view target, std::string_view name) {
  if (routed(name) && !routed(target)) return false;
  if (!name.ends_with(target)) return false;
  return name.size() == target.size() || name[name.size() - target.size() - 1] == '.';
}

bool adaptable(const TensorSpec& spec) { return spec.use == TensorUse::kMatrix; }

}  // namespace

std::size_t AdapterShape::parameters() const {
  std::size_t sum = 0;
  for (const AdaptedLinear& linear : linears) sum += linear.parameters(kind);
  return sum;
}

std::size_t AdapterShape::rank_max() const {
  std::size_t most = 0;
  for (const AdaptedLinear& linear : linears) most = std::max(most, linear.rank);
  return most;
}

std::span<const std::string> default_targets() {
  static const std::array<std::string, 11> list = {"q_proj",    "k_proj",     "v_proj",     "o_proj",
                                                   "in_proj",   "out_proj",   "gate_proj",  "up_proj",
                                                   "down_proj", "input_proj", "output_proj"};
  return list;
}

Result<std::vector<AdaptedLinear>> find_linears(const Config& config, std::span<const std::string> targets,
                                                std::size_t rank) {
  std::vector<std::string> endings;
  for (const std::string& target : targets) {
    const auto group = groups().find(target);
    if (group != groups().end()) {
      endings.insert(endings.end(), group->second.begin(), group->second.end());
    } else {
      endings.push_back(target);
    }
  }
  std::vector<AdaptedLinear> found;
  std::vector<bool> used(endings.size());
  for (const TensorSpec& spec : tensor_list(config)) {
    if (!adaptable(spec)) continue;
    bool wanted = false;
    for (std::size_t i = 0; i < endings.size(); ++i) {
      if (!means(endings[i], spec.name)) continue;
      wanted = used[i] = true;
    }
    if (!wanted) continue;
    const bool stack = spec.shape.rank() == 3;
    found.push_back({.name = spec.name,
                     .in = static_cast<std::size_t>(spec.cols()),
                     .out = static_cast<std::size_t>(spec.shape[stack ? 1 : 0]),
                     .experts = stack ? static_cast<std::size_t>(spec.shape[0]) : 0,
                     .rank = rank});
  }
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const bool known = groups().contains(targets[i]) || std::any_of(found.begin(), found.end(), [&](const auto& f) {
                         return means(targets[i], f.name);
                       });
    if (known) continue;
    return make_error(
        ErrorCode::kInvalidArgument,
        "target \"{}\" names no layer: there are in_proj, x_proj, out_proj, q_proj, k_proj, v_proj, o_proj, "
        "gate_proj, up_proj, down_proj, input_proj, output_proj, full names such as layer_0.ssm.in_proj, and "
        "the groups ssm, attention, shared_expert, experts, projections and all-linear",
        targets[i]);
  }
  if (found.empty()) return make_error(ErrorCode::kInvalidArgument, "no target is left: this model has none of them");
  return found;
}

AdapterSet::AdapterSet(Carver& carver, AdapterShape shape)
    : shape_(std::move(shape)),
      values_(carver.span<float>(shape_.parameters())),
      scale_(carver.span<float>(shape_.rank_max())),
      ranks_learning_(shape_.rank_max()) {
  const bool dora = shape_.kind == AdapterKind::kDora;
  std::size_t first = 0;
  const auto tensor = [&](std::size_t linear, Part part, std::size_t expert, std::size_t rows, std::size_t cols) {
    tensors_.push_back({linear, part, expert, rows, cols, first});
    first += rows * cols;
    return tensors_.size() - 1;
  };
  for (std::size_t l = 0; l < shape_.linears.size(); ++l) {
    const AdaptedLinear& linear = shape_.linears[l];
    for (std::size_t e = 0; e < linear.count(); ++e) {
      One one;
      one.a = tensor(l, Part::kA, e, linear.rank, linear.in);
      one.b = tensor(l, Part::kB, e, linear.rank, linear.out);
      if (dora) {
        one.m = tensor(l, Part::kMagnitude, e, 1, linear.out);
        for (auto* span : {&one.squares, &one.columns, &one.norms}) *span = carver.span<float>(linear.out);
      }
      ones_.push_back(one);
    }
  }
  if (carver.measures()) return;
  std::ranges::fill(scale_, shape_.scale);
  bind();
}

void AdapterSet::bind() {
  adapters_.resize(ones_.size());
  for (std::size_t i = 0; i < ones_.size(); ++i) {
    const One& one = ones_[i];
    const AdapterTensor &a = tensors_[one.a], &b = tensors_[one.b];
    Adapter& adapter = adapters_[i];
    adapter.a = {values_of(a).data(), a.rows, a.cols};
    adapter.b = {values_of(b).data(), b.rows, b.cols};
    adapter.scale = scale_.first(a.rows);
    adapter.columns = one.columns;
    adapter.stream = i;
    if (gradients_.empty()) continue;
    const std::size_t ranks = std::min(ranks_learning_, a.rows);
    adapter.da = {gradients_.data() + a.first, ranks, a.cols};
    adapter.db = {gradients_.data() + b.first, ranks, b.cols};
    if (shape_.kind == AdapterKind::kDora) adapter.dcolumns = gradients_.subspan(tensors_[one.m].first, b.cols);
  }
}

void AdapterSet::initialise(std::uint64_t seed) {
  for (const AdapterTensor& t : tensors_) {
    const std::span<float> to = values_of(t);
    if (t.part != Part::kA) {
      std::ranges::fill(to, 0.0f);
      continue;
    }
    const CounterRng rng(seed, hash64(shape_.linears[t.linear].name) + t.expert);
    const float limit = 1.0f / std::sqrt(static_cast<float>(t.cols));
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = rng.symmetric(i, limit);
  }
}

void AdapterSet::attach(Model& model, cpu::ThreadPool& pool, bool fresh) {
  std::map<std::string, std::size_t, std::less<>> first_of;  // of adapters_, by the layer's name
  std::size_t next = 0;
  for (const AdaptedLinear& linear : shape_.linears) {
    first_of[linear.name] = next;
    next += linear.count();
  }
  model.each_linear([&](const std::string& name, Linear& linear) {
    const auto found = first_of.find(name);
    linear.adapter = found == first_of.end() ? nullptr : &adapters_[found->second];
    if (found == first_of.end() || shape_.kind != AdapterKind::kDora) return;
    const std::size_t out = adapters_[found->second].b.cols;
    for (std::size_t e = 0; e * out < linear.rows; ++e) {
      One& one = ones_[found->second + e];
      one.weight = linear.slice(e * out, out);
      pool.split(out, 16, [&](std::size_t begin, std::size_t end, std::size_t) {
        std::vector<float> row(one.weight.cols);
        for (std::size_t r = begin; r < end; ++r) {
          affine::decode_row(one.weight, r, 0, row);
          double sum = 0.0;
          for (const float v : row) sum += double{v} * double{v};
          one.squares[r] = static_cast<float>(sum);
        }
      });
      if (!fresh) continue;
      const std::span<float> m = values_of(tensors_[one.m]);
      for (std::size_t r = 0; r < out; ++r) m[r] = std::sqrt(one.squares[r]);
    }
  });
  refresh(pool);
}

void AdapterSet::detach(Model& model) {
  model.each_linear([](const std::string&, Linear& linear) { linear.adapter = nullptr; });
}

void AdapterSet::learn(std::span<float> gradients) {
  AXON_CHECK(gradients.size() == values_.size());
  gradients_ = gradients;
  bind();
}

void AdapterSet::round_input() {
  std::size_t i = 0;
  for (const AdaptedLinear& linear : shape_.linears) {
    if (linear.name == "input_proj") adapters_[i].half = true;
    i += linear.count();
  }
}

void AdapterSet::learn_ranks(std::size_t count) {
  ranks_learning_ = count;
  bind();
}

namespace {

std::vector<double> gram_of(Mat<const float> a) {
  std::vector<double> gram(a.rows * a.rows);
  for (std::size_t j = 0; j < a.rows; ++j) {
    for (std::size_t k = 0; k < a.rows; ++k) {
      for (std::size_t c = 0; c < a.cols; ++c) gram[j * a.rows + k] += double{a.row(j)[c]} * double{a.row(k)[c]};
    }
  }
  return gram;
}

float dot(std::span<const float> x, std::span<const float> y) {
  float sums[16] = {};
  std::size_t c = 0;
  for (; c + 16 <= x.size(); c += 16) {
    for (std::size_t i = 0; i < 16; ++i) sums[i] += x[c + i] * y[c + i];
  }
  float sum = 0.0f;
  for (const float v : sums) sum += v;
  for (; c < x.size(); ++c) sum += x[c] * y[c];
  return sum;
}

// f(row, A w) for each row w of W; A w in [R].
template <class F>
void each_row(cpu::ThreadPool& pool, const Weight& weight, Mat<const float> a, F&& f) {
  pool.split(weight.rows, 16, [&](std::size_t begin, std::size_t end, std::size_t) {
    std::vector<float> row(weight.cols);
    std::vector<double> products(a.rows);
    for (std::size_t r = begin; r < end; ++r) {
      affine::decode_row(weight, r, 0, row);
      for (std::size_t j = 0; j < a.rows; ++j) products[j] = double{dot(a.row(j), row)};
      f(r, std::span<const double>(products));
    }
  });
}

}  // namespace

// ||W + s B A||^2 of a row is ||W||^2 + 2 s <b, A w> + s^2 b (A A^T) b, with b its column of B [R, out]. The original
// has 1 for the 2 (spec section 8).
void AdapterSet::refresh(cpu::ThreadPool& pool, bool compat) {
  if (shape_.kind != AdapterKind::kDora) return;
  const double cross = compat ? 1.0 : 2.0, s = double{shape_.scale};
  for (std::size_t i = 0; i < ones_.size(); ++i) {
    const One& one = ones_[i];
    const Adapter& adapter = adapters_[i];
    const std::size_t R = adapter.rank();
    const std::span<const float> m = values_of(tensors_[one.m]);
    const auto set = [&](std::size_t r, double square) {
      one.norms[r] = static_cast<float>(std::sqrt(std::max(square, 1e-30)));
      one.columns[r] = m[r] / one.norms[r];
    };
    if (std::ranges::all_of(values_of(tensors_[one.b]), [](float v) { return v == 0.0f; })) {
      for (std::size_t r = 0; r < m.size(); ++r) set(r, double{one.squares[r]});
      continue;
    }
    const std::vector<double> gram = gram_of(adapter.a);
    each_row(pool, one.weight, adapter.a, [&](std::size_t r, std::span<const double> aw) {
      double square = double{one.squares[r]};
      for (std::size_t j = 0; j < R; ++j) {
        double mixed = 0.0;
        for (std::size_t k = 0; k < R; ++k) mixed += gram[j * R + k] * double{adapter.b.row(k)[r]};
        square += double{adapter.b.row(j)[r]} * (cross * s * aw[j] + s * s * mixed);
      }
      set(r, square);
    });
  }
}

void AdapterSet::finish_gradients(cpu::ThreadPool& pool, bool compat) {
  if (shape_.kind != AdapterKind::kDora) return;
  for (std::size_t i = 0; i < ones_.size(); ++i) {
    const One& one = ones_[i];
    if (compat) add_norm_gradients(pool, i);
    const std::span<const float> m = values_of(tensors_[one.m]);
    const std::span<float> dm = gradients_.subspan(tensors_[one.m].first, m.size());
    for (std::size_t r = 0; r < m.size(); ++r) dm[r] = m[r] == 0.0f ? 0.0f : dm[r] / m[r];
  }
}

// The norm of the original: ||W||^2 + s <b, A w> + s^2 b G b, G = A A^T; A w is not differentiated, b and G are.
// dnorm = -sum_t dy y / norm, dsquare = dnorm / (2 norm), db = dsquare (s A w + 2 s^2 G b), dA = 2 s^2 sum dsquare b
// b^T A.
void AdapterSet::add_norm_gradients(cpu::ThreadPool& pool, std::size_t i) {
  const One& one = ones_[i];
  const Adapter& adapter = adapters_[i];
  const std::size_t R = adapter.rank(), out = adapter.b.cols, ranks = adapter.da.rows;
  const double s = double{shape_.scale};
  const std::vector<double> gram = gram_of(adapter.a);
  std::vector<double> dsquare(out), dgram(R * R);
  for (std::size_t r = 0; r < out; ++r) {
    const double norm = double{one.norms[r]};
    dsquare[r] = -double{adapter.dcolumns[r]} / (2.0 * norm * norm);
    for (std::size_t j = 0; j < R; ++j) {
      for (std::size_t k = 0; k < R; ++k) {
        dgram[j * R + k] += s * s * dsquare[r] * double{adapter.b.row(j)[r]} * double{adapter.b.row(k)[r]};
      }
    }
  }
  each_row(pool, one.weight, adapter.a, [&](std::size_t r, std::span<const double> aw) {
    for (std::size_t j = 0; j < ranks; ++j) {
      double mixed = 0.0;
      for (std::size_t k = 0; k < R; ++k) mixed += gram[j * R + k] * double{adapter.b.row(k)[r]};
      float& g = adapter.db.row(j)[r];
      g = static_cast<float>(double{g} + dsquare[r] * (s * aw[j] + 2.0 * s * s * mixed));
    }
  });
  for (std::size_t j = 0; j < ranks; ++j) {
    for (std::size_t c = 0; c < adapter.a.cols; ++c) {
      double sum = double{adapter.da.row(j)[c]};
      for (std::size_t k = 0; k < R; ++k) sum += 2.0 * dgram[j * R + k] * double{adapter.a.row(k)[c]};
      adapter.da.row(j)[c] = static_cast<float>(sum);
    }
  }
}

}  // namespace axon
