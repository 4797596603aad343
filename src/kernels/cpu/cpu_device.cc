#include "kernels/cpu/cpu_device.h"

#include <algorithm>
#include <utility>

#include "kernels/cpu/conv.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/embed.h"
#include "kernels/cpu/level.h"
#include "kernels/cpu/moe.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/stopwatch.h"

namespace axon::cpu {
namespace {

MatmulLimits matmul_limits(const DeviceLimits& limits) {
  return {.x_elements_max = limits.x_elements_max,
          .cols_max = limits.cols_max,
          .rows_of_x_max = limits.rows_of_x_max,
          .bf16_cols_max = limits.bf16_cols_max,
          .mixed_elements_max = limits.mixed_elements_max,
          .transposed_rows_max = limits.transposed_rows_max};
}

ScanBackwardLimits scan_backward_limits(const DeviceLimits& limits) {
  return {
      .states_max = limits.states_max, .tokens_max = limits.back_tokens_max, .channels_max = limits.back_channels_max};
}

std::uint64_t bytes_of(Mat<const float> m) { return std::uint64_t{m.rows} * m.cols * sizeof(float); }

// What the queries of a call see of the past.
std::uint64_t bytes_seen(const KvCache& past, std::uint64_t first_position, std::size_t window) {
  const std::uint64_t seen = std::min<std::uint64_t>({first_position, past.capacity, window - 1});
  if (past.layout == nullptr) return seen * past.heads * 2 * past.head_dim * size_of(past.dtype);
  const std::uint64_t room = past.head_plan.coded_tokens + past.head_plan.tail_tokens;
  return seen * past.heads * past.head_plan.bytes.count / room;
}

}  // namespace

// The same parts in the same order as the constructor's members.
Carver CpuDevice::scratch(const DeviceLimits& limits, std::size_t threads) {
  Carver carver;
  Attention(limits.head_dim_max, threads, Arithmetic::kFast, carver);
  Scan(limits.states_max, threads, carver);
  ScanBackward(scan_backward_limits(limits), threads, carver);
  ConvBackward(limits.back_taps_max, threads, carver);
  Matmul::carve_scratch(matmul_limits(limits), threads, carver);
  AttentionBackward(limits.attend_backward_tokens_max, limits.head_dim_max, threads, carver);
  return carver;
}

Result<std::unique_ptr<CpuDevice>> CpuDevice::create(Ledger& ledger, const DeviceLimits& limits, std::size_t threads,
                                                     Arithmetic arithmetic) {
  Arena arena = AXON_TRY(Arena::create(ledger, account::kWorkspace, scratch(limits, threads).peak()));
  return std::unique_ptr<CpuDevice>(new CpuDevice(std::move(arena), limits, threads, arithmetic));
}

CpuDevice::CpuDevice(Arena arena, const DeviceLimits& limits, std::size_t threads, Arithmetic arithmetic)
    : arena_(std::move(arena)),
      carver_(arena_.carver()),
      pool_(threads),
      attention_(limits.head_dim_max, threads, arithmetic, carver_),
      scan_(limits.states_max, threads, carver_),
      scan_backward_(scan_backward_limits(limits), threads, carver_),
      conv_backward_(limits.back_taps_max, threads, carver_),
      matmul_(matmul_limits(limits), arithmetic, pool_, carver_),
      attention_backward_(limits.attend_backward_tokens_max, limits.head_dim_max, threads, carver_) {
  level();  // looking at the processor allocates, once
}

void CpuDevice::matmul(std::span<const Product> products) {
  const Stopwatch watch(work_.of(Verb::kMatmul));
  matmul_.count(products, work_);
  matmul_.run(products);
}

void CpuDevice::embed(const Weight& table, std::span<const std::uint32_t> ids, Mat<float> y) {
  const Stopwatch watch(work_.of(Verb::kEmbed));
  work_.weight_bytes += ids.size() * table.slice(0, 1).bytes().count;
  cpu::embed(pool_, table, ids, y);
}

void CpuDevice::rms_norm(Mat<const float> x, std::span<const float> weight, float eps, Mat<float> y) {
  const Stopwatch watch(work_.of(Verb::kRmsNorm));
  work_.weight_bytes += weight.size_bytes();
  cpu::rms_norm(pool_, x, weight, eps, y);
}

void CpuDevice::conv_silu(Mat<const float> x, Mat<const float> taps, std::span<const float> bias, Mat<float> tail,
                          Mat<float> u) {
  const Stopwatch watch(work_.of(Verb::kConvSilu));
  work_.weight_bytes += bytes_of(taps) + bias.size_bytes();
  work_.state_bytes += 2 * bytes_of(tail);
  cpu::conv_silu(pool_, x, taps, bias, tail, u);
}

void CpuDevice::scan(const ScanInput& in, Mat<float> h, Mat<float> y) {
  const Stopwatch watch(work_.of(Verb::kScan));
  work_.weight_bytes += bytes_of(in.a) + in.dt_weight.size_bytes() + in.dt_bias.size_bytes() + in.d.size_bytes();
  work_.state_bytes += 2 * bytes_of(h);
  scan_.run(pool_, in, h, y);
}

void CpuDevice::rotate(const turboquant::Rotation& rotation, bool back, Mat<float> x) {
  const Stopwatch watch(work_.of(Verb::kRotate));
  cpu::rotate(pool_, rotation, back, x);
}

void CpuDevice::attend(Mat<const float> q, Mat<const float> k, Mat<const float> v, const KvCache& past,
                       std::uint64_t first_position, std::size_t window, Mat<float> y) {
  const Stopwatch watch(work_.of(Verb::kAttend));
  work_.kv_bytes += bytes_seen(past, first_position, window);
  attention_.run(pool_, q, k, v, past, first_position, window, y);
}

void CpuDevice::append(Mat<const float> k, Mat<const float> v, std::uint64_t first_position, const KvCache& cache) {
  const Stopwatch watch(work_.of(Verb::kAppend));
  cpu::append(pool_, k, v, first_position, cache);
}

void CpuDevice::route(Mat<const float> logits, Mat<std::uint32_t> experts, Mat<float> scores) {
  const Stopwatch watch(work_.of(Verb::kRoute));
  cpu::route(logits, experts, scores);
}

void CpuDevice::swiglu(Mat<const float> gate, Mat<const float> up, Mat<float> h) {
  const Stopwatch watch(work_.of(Verb::kSwiglu));
  cpu::swiglu(pool_, gate, up, h);
}

void CpuDevice::combine(Mat<const float> routed, Mat<const std::uint32_t> slots, Mat<const float> scores,
                        Mat<const float> shared, Mat<const float> shared_gate, Mat<float> x) {
  const Stopwatch watch(work_.of(Verb::kCombine));
  cpu::combine(pool_, routed, slots, scores, shared, shared_gate, x);
}

}  // namespace axon::cpu
