#include "kernels/cpu/matmul.h"

#include <algorithm>

#include "kernels/cpu/level.h"
#include "kernels/cpu/matmul_float.h"
#include "kernels/cpu/matmul_transposed_float.h"

namespace axon::cpu {
namespace {

// Below this many bytes of weights, or elements of activations, waking the other threads costs more than they bring.
constexpr std::size_t kBytesAlone = 32 << 10;
constexpr std::size_t kElementsAlone = 16 << 10;

constexpr std::size_t kRowsTogether = 4;  // the most rows that a kernel takes together for one token

std::size_t tokens_of(const Product& p) { return p.x_rows.empty() ? p.x.rows : p.x_rows.size(); }

bool same(std::span<const std::uint32_t> a, std::span<const std::uint32_t> b) {
  return a.size() == b.size() && (a.empty() || a.data() == b.data());
}
bool same(const Mat<const float>& a, const Mat<const float>& b) {
  return a.data == b.data && a.rows == b.rows && a.cols == b.cols && a.stride == b.stride;
}

}  // namespace

Matmul::Scratch::Scratch(const MatmulLimits& limits, std::size_t thread_count, Carver& carver) {
  // Rows are padded; the smallest group has 32 columns; a scale and a sum each. bf16 has no scales.
  const bool mixed = limits.mixed_elements_max != 0;
  const std::size_t rows_of_x = limits.rows_of_x_max;
  codes = carver.span<std::byte>(
      std::max({limits.x_elements_max + rows_of_x * (int8::kColsPadding - 1),
                rows_of_x * sizeof(std::uint16_t) * bf16::stride(limits.bf16_cols_max),
                mixed ? sizeof(std::uint16_t) * (limits.mixed_elements_max + rows_of_x * bf16::kPaddingMax) : 0}));
  scales = carver.span<float>(2 * (limits.x_elements_max / 32 + limits.rows_of_x_max * int8::kGroupsPadding));
  std::size_t bytes = std::max(int8::scratch_bytes(limits.cols_max), float_scratch_bytes(limits.cols_max));
  if (mixed) bytes = std::max(bytes, bf16::rows_scratch_bytes(limits.cols_max));
  if (limits.transposed_rows_max != 0) {
    bytes = std::max(bytes, float_columns_scratch_bytes(limits.transposed_rows_max, limits.cols_max));
    if (mixed) bytes = std::max(bytes, bf16::columns_scratch_bytes(limits.transposed_rows_max, limits.cols_max));
  }
  thread_bytes = round_up(bytes, 4096);
  threads = carver.span<std::byte>(thread_count * thread_bytes);
}

void Matmul::carve_scratch(const MatmulLimits& limits, std::size_t threads, Carver& carver) {
  Scratch(limits, threads, carver);
}

Bytes Matmul::scratch_bytes(const MatmulLimits& limits, std::size_t threads) {
  Carver measure;
  carve_scratch(limits, threads, measure);
  return measure.peak();
}

Matmul::Matmul(const MatmulLimits& limits, Arithmetic arithmetic, ThreadPool& pool, Carver& carver)
    : limits_(limits), arithmetic_(arithmetic), pool_(pool), scratch_(limits, pool.size(), carver) {}

void Matmul::run(std::span<const Product> products) { run(products, Way::kThere); }
void Matmul::run_transposed(std::span<const Product> products) { run(products, Way::kBack); }

void Matmul::run(std::span<const Product> products, Way way) {
  way_ = way;
  int8_ = &int8::kernels(level());
  bf16_ = bf16::kernels(level());
  while (!products.empty()) {
    jobs_count_ = rounded_count_ = codes_used_ = scales_used_ = units_ = bytes_ = 0;
    single_tokens_ = true;
    std::size_t taken = 0;
    while (taken < products.size() && jobs_count_ < kJobsMax && add(products.subspan(taken))) ++taken;
    AXON_CHECK(taken != 0);  // a product larger than the limits
    execute();
    products = products.subspan(taken);
  }
}

void Matmul::count(std::span<const Product> products, Way way, DeviceWork& work) const {
  for (const Product& p : products) {
    const std::uint64_t operations = 2 * std::uint64_t{tokens_of(p)} * p.weight.rows * p.weight.cols;
    if (operations == 0) continue;
    work.weight_bytes += p.weight.bytes().count;
    switch (form_for(p.weight, way)) {
      case Form::kInt8: work.int8_ops += operations; break;
      case Form::kBf16: work.bf16_flops += operations; break;
      case Form::kFloat: work.fp32_flops += operations; break;
    }
  }
}

Matmul::Form Matmul::form_for(const Weight& w, Way way) const {
  if (arithmetic_ == Arithmetic::kExact) return Form::kFloat;
  if (arithmetic_ == Arithmetic::kMixed) {
    return bf16::takes_mixed(w) && has_bf16_dot(level()) ? Form::kBf16 : Form::kFloat;
  }
  if (way == Way::kBack) return Form::kFloat;
  if (w.quantised()) return Form::kInt8;
  return bf16::takes(w) && has_bf16_dot(level()) ? Form::kBf16 : Form::kFloat;
}

// Takes the first of `rest` into this round; false when the scratch is too full for it.
bool Matmul::add(std::span<const Product> rest) {
  const Product& p = rest.front();
  const Weight& w = p.weight;
  const std::size_t tokens = tokens_of(p);
  const std::size_t in = way_ == Way::kThere ? w.cols : w.rows, out = way_ == Way::kThere ? w.rows : w.cols;
  if (tokens == 0 || out == 0) return true;
  AXON_DCHECK(p.x.cols == in && p.y.rows == tokens && p.y.cols == out);
  AXON_CHECK(way_ == Way::kThere || w.rows <= limits_.transposed_rows_max);
  AXON_CHECK(arithmetic_ != Arithmetic::kMixed || tokens * in <= limits_.mixed_elements_max);
  Job& job = jobs_[jobs_count_];
  job.product = &p;
  job.tokens = tokens;
  job.form = form_for(w, way_);
  if (job.form != Form::kFloat) {
    const Rounded* rounded = round(rest);
    if (rounded == nullptr) return false;
    const auto x_rows = rounded->gathered.empty() ? p.x_rows : std::span<const std::uint32_t>{};
    const Mat<float> y{p.y.data, tokens, out, p.y.stride};
    if (job.form == Form::kInt8) {
      job.int8 = {w, rounded->int8(), x_rows, y, p.add};
    } else {
      job.bf16 = {w, rounded->bf16(), x_rows, y, p.add};
    }
  }
  divide(job);
  job.first_unit = units_;
  job.first_byte = bytes_;
  units_ += job.units();
  bytes_ += w.rows * w.row_bytes();
  single_tokens_ = single_tokens_ && tokens == 1 && way_ == Way::kThere;
  ++jobs_count_;
  return true;
}

void Matmul::divide(Job& job) {
  const Weight& w = job.product->weight;
  if (way_ == Way::kBack) {
    job.split = Split::kColumns;
    job.extent = w.cols;
    job.unit = job.form == Form::kBf16 ? bf16::kUnitCols : kFloatUnitCols;
  } else if (job.form == Form::kFloat && w.rows <= kFewRows && job.tokens > kTokensPerUnit) {
    job.split = Split::kTokens;
    job.extent = job.tokens;
    job.unit = kTokensPerUnit;
  } else {
    job.split = Split::kRows;
    job.extent = w.rows;
    job.unit = kRowsPerUnit;
  }
}

const Matmul::Rounded* Matmul::find(const Rounded& wanted) const {
  for (std::size_t i = 0; i < rounded_count_; ++i) {
    const Rounded& r = rounded_[i];
    if (same(r.x, wanted.x) && same(r.gathered, wanted.gathered) && r.form == wanted.form &&
        r.group_size == wanted.group_size && r.interleave == wanted.interleave) {
      return &r;
    }
  }
  return nullptr;
}

// How all of x of `p` would be rounded for its weight.
Matmul::Rounded Matmul::form_of(const Product& p) const {
  Rounded rounded;
  rounded.x = p.x;
  rounded.form = form_for(p.weight, way_);
  if (rounded.form == Form::kBf16) {
    rounded.row_bytes = sizeof(std::uint16_t) * bf16::stride(p.x.cols);
    return rounded;
  }
  rounded.group_size = static_cast<std::size_t>(p.weight.affine.group_size);
  rounded.interleave = int8_->interleave(p.weight.affine.bits, rounded.group_size, tokens_of(p));
  rounded.row_bytes = round_up(p.x.cols, int8::kColsPadding);
  rounded.group_stride = round_up(p.weight.groups(), int8::kGroupsPadding);
  return rounded;
}

// The rounded form of x of the first of `rest`: what an earlier product left, or made now; null when it does not fit.
// All of x is rounded when it fits and the products of the call look at that many rows of it; else only the rows that
// this one wants.
const Matmul::Rounded* Matmul::round(std::span<const Product> rest) {
  const Product& p = rest.front();
  Rounded rounded = form_of(p);
  const auto fits = [&](std::size_t rows) {
    return rows * rounded.row_bytes <= scratch_.codes.size() - codes_used_ &&
           2 * rows * rounded.group_stride <= scratch_.scales.size() - scales_used_;
  };
  const Rounded* found = find(rounded);
  std::size_t rows = p.x.rows;
  if (found == nullptr && !p.x_rows.empty()) {
    std::size_t wanted = 0;
    for (const Product& other : rest) wanted += same(other.x, p.x) ? tokens_of(other) : 0;
    if (wanted < rows || !fits(rows)) {
      rounded.gathered = p.x_rows;
      rows = p.x_rows.size();
      found = find(rounded);
    }
  }
  if (found != nullptr) return found;
  if (!fits(rows)) return nullptr;
  rounded.codes = scratch_.codes.data() + codes_used_;
  rounded.scale = scratch_.scales.data() + scales_used_;
  rounded.sum = rounded.scale + rows * rounded.group_stride;
  fill(rounded, rows);
  codes_used_ += rows * rounded.row_bytes;
  scales_used_ += 2 * rows * rounded.group_stride;
  rounded_[rounded_count_] = rounded;
  return &rounded_[rounded_count_++];
}

void Matmul::fill(const Rounded& rounded, std::size_t rows) {
  const auto piece = [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t i = begin; i < end; ++i) {
      const float* x = rounded.x.row_ptr(rounded.gathered.empty() ? i : rounded.gathered[i]);
      std::byte* codes = rounded.codes + i * rounded.row_bytes;
      if (rounded.form == Form::kBf16) {
        bf16_->round(x, rounded.x.cols, reinterpret_cast<std::uint16_t*>(codes));
      } else {
        int8_->quantise(x, rounded.x.cols, rounded.group_size, rounded.interleave,
                        reinterpret_cast<std::int8_t*>(codes), rounded.scale + i * rounded.group_stride,
                        rounded.sum + i * rounded.group_stride);
      }
    }
  };
  if (rows * rounded.x.cols < kElementsAlone) return piece(0, rows, 0);
  pool_.split(rows, 1, piece);
}

void Matmul::execute() {
  if (jobs_count_ == 0) return;
  if (single_tokens_) {
    // Bound by memory: most of it in one contiguous piece a thread, since one long stream reads fastest; the rest goes
    // to whoever is done, since no two cores are served alike.
    if (bytes_ <= kBytesAlone || pool_.size() == 1) return run_bytes(0, bytes_, 0);
    const std::size_t own = bytes_ / 8 * 7 / pool_.size();
    pool_.share_after(own, bytes_, kBytesAlone,
                      [&](std::size_t begin, std::size_t end, std::size_t thread) { run_bytes(begin, end, thread); });
    return;
  }
  // Uneven experts and a busy machine want small pieces; streams want long ones.
  const std::size_t grain = std::clamp<std::size_t>(units_ / (8 * pool_.size()), 1, 8);
  pool_.share(units_, grain,
              [&](std::size_t begin, std::size_t end, std::size_t thread) { run_units(begin, end, thread); });
}

void Matmul::run_rows(const Job& job, std::size_t begin, std::size_t end, std::size_t thread) {
  std::byte* scratch = scratch_.threads.data() + thread * scratch_.thread_bytes;
  switch (job.form) {
    case Form::kInt8: return int8_->rows(job.int8, begin, end, scratch);
    case Form::kBf16: return bf16_->rows(job.bf16, begin, end, scratch);
    case Form::kFloat: return float_rows(*job.product, {begin, end}, {0, job.tokens}, scratch);
  }
}

void Matmul::run_columns(const Job& job, std::size_t begin, std::size_t end, std::size_t thread) {
  std::byte* scratch = scratch_.threads.data() + thread * scratch_.thread_bytes;
  if (job.form == Form::kBf16) return bf16_->columns(job.bf16, begin, end, scratch);
  float_columns(*job.product, begin, end, scratch);
}

// The rows whose first byte lies in [begin, end), but borders are moved on to multiples of the rows that a kernel takes
// together: a row's sum depends on its company, and may not depend on who takes it.
void Matmul::run_bytes(std::size_t begin, std::size_t end, std::size_t thread) {
  for (std::size_t i = 0; i < jobs_count_; ++i) {
    const Job& job = jobs_[i];
    const std::size_t row_bytes = job.product->weight.row_bytes();
    const auto row_at = [&](std::size_t byte) {
      if (byte <= job.first_byte) return std::size_t{0};
      const std::size_t row = (byte - job.first_byte + row_bytes - 1) / row_bytes;
      return std::min(round_up(row, kRowsTogether), job.product->weight.rows);
    };
    if (row_at(begin) < row_at(end)) run_rows(job, row_at(begin), row_at(end), thread);
  }
}

void Matmul::run_units(std::size_t begin, std::size_t end, std::size_t thread) {
  for (std::size_t i = 0; i < jobs_count_; ++i) {
    const Job& job = jobs_[i];
    const std::size_t last_unit = job.first_unit + job.units();
    const std::size_t first = (std::clamp(begin, job.first_unit, last_unit) - job.first_unit) * job.unit;
    const std::size_t last =
        std::min((std::clamp(end, job.first_unit, last_unit) - job.first_unit) * job.unit, job.extent);
    if (first >= last) continue;
    switch (job.split) {
      case Split::kRows: run_rows(job, first, last, thread); break;
      case Split::kTokens:
        float_rows(*job.product, {0, job.product->weight.rows}, {first, last},
                   scratch_.threads.data() + thread * scratch_.thread_bytes);
        break;
      case Split::kColumns: run_columns(job, first, last, thread); break;
    }
  }
}

}  // namespace axon::cpu
