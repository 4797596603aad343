#pragma once
// Carver and Arena: one piece of code says which views it needs; run over nothing it measures, run over an arena it
// hands them out. So what is planned and what is allocated cannot differ.

#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "memory/ledger.h"
#include "tensor/mat.h"

namespace axon {

// A view that was carved: what an explanation of the account lists.
struct CarvedPiece {
  std::uint64_t rows = 0, cols = 0, element = 0;  // element: bytes of one value
  std::size_t at = 0, size = 0;                   // place and size in the arena, rounded up to the alignment
};

// Hands out 64-byte-aligned views one after the other. Without memory behind it, it only measures: the views then
// have their shape and a null pointer. Phases that never overlap in time share bytes through mark() and rewind().
class Carver {
 public:
  Carver() = default;  // measures
  Carver(std::byte* base, std::size_t size) : base_(base), limit_(size) {}

  template <class T>
  std::span<T> span(std::size_t count) {
    return {view<T>(1, count), count};
  }
  template <class T>
  Mat<T> mat(std::size_t rows, std::size_t cols) {
    return {view<T>(rows, cols), rows, cols};
  }

  bool measures() const { return base_ == nullptr; }
  std::size_t mark() const { return used_; }
  void rewind(std::size_t mark) {
    AXON_CHECK(mark <= used_);
    if (base_ == nullptr && used_ == peak_ && mark < used_) pieces_at_peak_ = pieces_;
    used_ = mark;
  }
  Bytes peak() const { return {peak_}; }
  // The views that make up the peak, by place. Known only to a Carver that measures.
  const std::vector<CarvedPiece>& pieces() const { return peak_ == used_ ? pieces_ : pieces_at_peak_; }

 private:
  static constexpr std::size_t kAlignment = 64;
  template <class T>
  T* view(std::size_t rows, std::size_t cols) {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= kAlignment);
    const auto count = checked_mul(rows, cols);
    const auto bytes = count ? checked_mul(*count, sizeof(T)) : std::nullopt;
    AXON_CHECK(bytes.has_value());
    if (base_ == nullptr) record({.rows = rows, .cols = cols, .element = sizeof(T), .at = used_, .size = *bytes});
    return reinterpret_cast<T*>(take(*bytes));
  }
  void record(CarvedPiece piece) {
    while (!pieces_.empty() && pieces_.back().at >= used_) pieces_.pop_back();  // what a rewind gave back
    piece.size = round_up(piece.size, kAlignment);
    if (piece.size != 0) pieces_.push_back(piece);
  }
  std::byte* take(std::size_t bytes) {
    const std::size_t at = used_;
    const auto end = checked_add(at, bytes);
    AXON_CHECK(end.has_value() && *end < (std::size_t{1} << 62));
    used_ = round_up(*end, kAlignment);
    if (used_ > peak_) peak_ = used_;
    if (base_ == nullptr) return nullptr;
    AXON_CHECK(used_ <= limit_);  // the plan and the use of it disagree
    return base_ + at;
  }
  std::byte* base_ = nullptr;
  std::size_t limit_ = 0;
  std::size_t used_ = 0;
  std::size_t peak_ = 0;
  std::vector<CarvedPiece> pieces_, pieces_at_peak_;
};

// Zeroed memory from the operating system, granted by the ledger before it exists. Every page is there when create()
// returns: what was granted is never missing later, in the middle of an answer.
class Arena {
 public:
  Arena() = default;
  static Result<Arena> create(Ledger& ledger, std::string_view account, Bytes size);
  Arena(Arena&& other) noexcept
      : reservation_(std::move(other.reservation_)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  Arena& operator=(Arena&& other) noexcept;
  ~Arena();

  std::byte* data() const { return data_; }
  Bytes size() const { return {size_}; }
  Carver carver() const { return {data_, size_}; }

 private:
  Reservation reservation_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace axon
