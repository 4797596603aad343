#pragma once
// The rows of one batch, in buffers of fixed size that are filled from the front.

#include "memory/arena.h"
#include "train/data.h"

namespace axon::train {

class RowBuffers {
 public:
  RowBuffers(Carver& carver, std::size_t rows, std::size_t capacity);

  void clear();
  void open_row();
  std::size_t rows() const { return used_; }
  std::size_t room() const;  // positions left in the open row; 0 when none is open

  // A segment of the open row to be filled: zeros without targets.
  struct Place {
    std::span<TokenId> ids;
    std::span<std::uint32_t> labels;
  };
  Place segment(std::size_t positions, SegmentRole role, std::uint32_t line);
  void line(std::uint32_t line);  // of an example in the open row
  void count_example() { ++examples_; }
  // Whole, as segments of the open row: ids and what follows each.
  void example(const Example& example, std::uint32_t line);

  Batch batch();  // of what was filled

 private:
  struct Filled {
    std::size_t positions = 0, segments = 0, lines = 0;
  };
  Mat<TokenId> ids_;           // [rows, capacity]
  Mat<std::uint32_t> labels_;  // [rows, capacity]
  Mat<Segment> segments_;      // [rows, capacity]
  Mat<std::uint32_t> lines_;   // [rows, capacity]
  std::span<Row> views_;       // [rows]
  std::span<Filled> filled_;   // [rows]
  std::size_t used_ = 0;
  std::uint64_t examples_ = 0;
};

}  // namespace axon::train
