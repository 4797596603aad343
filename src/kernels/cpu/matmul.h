#pragma once
// Device::matmul and its way back on the CPU: picks the arithmetic, rounds activations to int8 or bf16 once for all who
// share them, and splits the rows or columns of all weights of a call over the threads, in one fork and join.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bytes.h"
#include "kernels/cpu/bf16_kernels.h"
#include "kernels/cpu/device_work.h"
#include "kernels/cpu/int8_kernels.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/device.h"
#include "memory/arena.h"

namespace axon::cpu {

// The largest Product that will come: only the scratch depends on it.
struct MatmulLimits {
  std::size_t x_elements_max = 0;  // tokens * cols of one Product
  std::size_t cols_max = 0;        // of any weight
  std::size_t rows_of_x_max = 0;   // tokens of one Product
  std::size_t bf16_cols_max = 0;   // of the weights that bf16::takes()
  // Training's. 0: nothing in kMixed, and no run_transposed(), will come.
  std::size_t mixed_elements_max = 0;   // of x of one Product in kMixed: tokens * cols, or * rows in run_transposed()
  std::size_t transposed_rows_max = 0;  // of any weight in run_transposed()
};

class Matmul {
 public:
  static void carve_scratch(const MatmulLimits& limits, std::size_t threads, Carver& carver);
  static Bytes scratch_bytes(const MatmulLimits& limits, std::size_t threads);
  // The scratch comes from `carver` and belongs to its owner. One call of run() at a time.
  Matmul(const MatmulLimits& limits, Arithmetic arithmetic, ThreadPool& pool, Carver& carver);

  // Device::matmul. Products without tokens or rows are skipped. Any number of products; their rounded activations
  // need not fit the scratch together.
  void run(std::span<const Product> products);
  // Device::matmul_transposed, likewise. Results do not depend on the number of threads.
  void run_transposed(std::span<const Product> products);
  // Adds what run() or run_transposed() of these reads and computes.
  void count(std::span<const Product> products, DeviceWork& work) const { count(products, Way::kThere, work); }
  void count_transposed(std::span<const Product> products, DeviceWork& work) const {
    count(products, Way::kBack, work);
  }

 private:
  struct Scratch {
    Scratch(const MatmulLimits& limits, std::size_t threads, Carver& carver);
    std::span<std::byte> codes;  // int8 or bf16
    std::span<float> scales;
    std::span<std::byte> threads;  // `thread_bytes` each
    std::size_t thread_bytes = 0;
  };
  // W x, or W^T x.
  enum class Way { kThere, kBack };
  // What the activations of a product become before they meet its weights.
  enum class Form { kFloat, kInt8, kBf16 };
  // What of a product the threads share.
  enum class Split { kRows, kTokens, kColumns };
  // Activations that are rounded already, and whose they are.
  struct Rounded {
    Mat<const float> x;
    std::span<const std::uint32_t> gathered;  // the rows that were taken; empty: all
    Form form = Form::kInt8;
    std::size_t group_size = 0;    // kInt8
    std::size_t interleave = 0;    // kInt8
    std::size_t row_bytes = 0;     // of codes
    std::size_t group_stride = 0;  // of scales; 0 in kBf16
    std::byte* codes = nullptr;    // [rows, row_bytes]
    float* scale = nullptr;        // [rows, group_stride]
    float* sum = nullptr;          // [rows, group_stride]

    int8::Activations int8() const {
      return {reinterpret_cast<const std::int8_t*>(codes), scale, sum, row_bytes, group_stride};
    }
    bf16::Activations bf16() const { return {reinterpret_cast<const std::uint16_t*>(codes), row_bytes / 2}; }
  };
  struct Job {
    const Product* product = nullptr;
    Form form = Form::kFloat;
    int8::Job int8;
    bf16::Job bf16;
    std::size_t tokens = 0;
    Split split = Split::kRows;
    std::size_t extent = 0, unit = 1;  // rows, tokens or columns: all, and of a unit
    std::size_t first_unit = 0;        // counted through all jobs
    std::size_t first_byte = 0;        // of weights, counted through all jobs

    std::size_t units() const { return (extent + unit - 1) / unit; }
  };
  static constexpr std::size_t kJobsMax = 64;
  static constexpr std::size_t kRowsPerUnit = 32;
  static constexpr std::size_t kTokensPerUnit = 48;
  // Weights of as few rows meet many tokens with the tokens shared among the threads: adapters and routers. Only of
  // float32 arithmetic, where a sum does not depend on its company and decoding is cheap.
  static constexpr std::size_t kFewRows = 64;

  void run(std::span<const Product> products, Way way);
  void count(std::span<const Product> products, Way way, DeviceWork& work) const;
  bool add(std::span<const Product> rest);
  void divide(Job& job);
  Form form_for(const Weight& weight, Way way) const;
  Rounded form_of(const Product& product) const;
  const Rounded* round(std::span<const Product> rest);
  const Rounded* find(const Rounded& wanted) const;
  void fill(const Rounded& rounded, std::size_t rows);
  void execute();
  void run_rows(const Job& job, std::size_t begin, std::size_t end, std::size_t thread);
  void run_columns(const Job& job, std::size_t begin, std::size_t end, std::size_t thread);
  void run_bytes(std::size_t begin, std::size_t end, std::size_t thread);
  void run_units(std::size_t begin, std::size_t end, std::size_t thread);

  MatmulLimits limits_;
  Arithmetic arithmetic_;
  Way way_ = Way::kThere;  // of the products in hand
  ThreadPool& pool_;
  Scratch scratch_;
  const int8::Kernels* int8_ = nullptr;
  const bf16::Kernels* bf16_ = nullptr;
  std::array<Job, kJobsMax> jobs_;
  std::array<Rounded, kJobsMax> rounded_;
  std::size_t jobs_count_ = 0;
  std::size_t rounded_count_ = 0;
  std::size_t codes_used_ = 0;
  std::size_t scales_used_ = 0;
  std::size_t units_ = 0;
  std::size_t bytes_ = 0;
  bool single_tokens_ = true;
};

}  // namespace axon::cpu
