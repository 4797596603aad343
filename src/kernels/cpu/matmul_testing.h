#pragma once
// For the tests of products: weights and matrices that lie as badly as they may, and a Matmul with its memory.

#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "base/random.h"
#include "kernels/cpu/matmul.h"
#include "quant/affine.h"

namespace axon::cpu {

// A weight with its bytes. `shift` moves the bytes off their alignment, as a file mapping may.
class OwnedWeight {
 public:
  OwnedWeight(std::size_t rows, std::size_t cols, DType dtype, std::uint64_t seed) {
    view_.rows = rows;
    view_.cols = cols;
    view_.dtype = dtype;
    data_.resize(rows * cols * size_of(dtype) + kShift);
    const CounterRng random(seed);
    std::byte* data = data_.data() + size_of(dtype) % kShift;
    for (std::size_t i = 0; i < rows * cols; ++i) store_float(dtype, data, i, random.normal(i) * 0.05f);
    view_.data = data;
  }
  OwnedWeight(std::size_t rows, std::size_t cols, int bits, int group_size, DType scale_dtype, std::uint64_t seed) {
    view_.rows = rows;
    view_.cols = cols;
    view_.dtype = DType::kU32;
    view_.affine = {bits, group_size, scale_dtype, nullptr, nullptr};
    const std::size_t step = view_.groups() * size_of(scale_dtype);
    data_.resize(rows * view_.row_bytes() + kShift);
    scales_.resize(rows * step + kShift);
    biases_.resize(rows * step + kShift);
    std::byte* data = data_.data() + kShift;
    std::byte* scales = scales_.data() + size_of(scale_dtype);
    std::byte* biases = biases_.data() + size_of(scale_dtype);
    const CounterRng random(seed);
    std::vector<float> row(cols);
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t k = 0; k < cols; ++k) row[k] = random.normal(r * cols + k) * 0.05f;
      affine::encode_row(row, bits, group_size, scale_dtype, data + r * view_.row_bytes(), scales + r * step,
                         biases + r * step);
    }
    view_.data = data;
    view_.affine.scales = scales;
    view_.affine.biases = biases;
  }
  const Weight& view() const { return view_; }

 private:
  static constexpr std::size_t kShift = 4;
  std::vector<std::byte> data_, scales_, biases_;
  Weight view_;
};

// A matrix of random numbers, or of one value, with rows `gap` elements further apart than they are long.
class OwnedMat {
 public:
  OwnedMat(std::size_t rows, std::size_t cols, std::size_t gap, std::uint64_t seed)
      : data_(rows * (cols + gap) + 1), rows_(rows), cols_(cols), stride_(cols + gap) {
    const CounterRng random(seed);
    for (std::size_t i = 0; i < data_.size(); ++i) data_[i] = random.normal(i);
  }
  Mat<float> view() { return {data_.data() + 1, rows_, cols_, stride_}; }

 private:
  std::vector<float> data_;
  std::size_t rows_, cols_, stride_;
};

// A copy of `count` bytes whose last one is the last of its page; the page after it may not be touched.
class GuardedBytes {
 public:
  GuardedBytes(const void* bytes, std::size_t count) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t used = round_up(count, page);
    size_ = used + page;
    pages_ = static_cast<std::byte*>(
        mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, /*fd=*/-1, /*offset=*/0));
    AXON_CHECK(pages_ != MAP_FAILED && mprotect(pages_ + used, page, PROT_NONE) == 0);
    bytes_ = pages_ + used - count;
    std::memcpy(pages_ + used - count, bytes, count);
  }
  ~GuardedBytes() { munmap(pages_, size_); }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;
  const std::byte* data() const { return bytes_; }

 private:
  std::byte* pages_;
  const std::byte* bytes_;
  std::size_t size_;
};

class Machine {
 public:
  Machine(const MatmulLimits& limits, Arithmetic arithmetic, std::size_t threads)
      : pool_(threads), memory_(Matmul::scratch_bytes(limits, threads).count + 64) {
    const std::size_t past = reinterpret_cast<std::uintptr_t>(memory_.data()) % 64;
    Carver carver(memory_.data() + (64 - past) % 64, memory_.size() - 64);
    matmul_ = std::make_unique<Matmul>(limits, arithmetic, pool_, carver);
  }
  Matmul& operator*() { return *matmul_; }

 private:
  ThreadPool pool_;
  std::vector<std::byte> memory_;
  std::unique_ptr<Matmul> matmul_;
};

}  // namespace axon::cpu
