#pragma once
// The stream of batches: an order for each epoch, rows of fixed capacity, shards, and a position to come back to.

#include <span>

#include "memory/arena.h"
#include "memory/ledger.h"
#include "train/data.h"
#include "train/data_packer.h"
#include "train/data_rows.h"

namespace axon::train {

struct BatchOptions {
  // Examples in a batch of one rank. With `pack`, rows of it: each is filled with whole examples, in order, until the
  // next does not fit. Pairs are packed in the same way.
  std::size_t batch_size = 1;
  bool pack = false;
  bool shuffle = true;  // otherwise the order of the file
  std::uint64_t seed = 42;
  // Repeats for ever: epochs follow each other without a gap, and a batch may hold the end of one and the start of the
  // next, so that all batches are full. Otherwise one pass, whose last batch holds what is left.
  bool repeat = true;
  // Of `world` ranks that train together this is number `rank`. Step k of all ranks in order is step k of one rank with
  // a batch_size that is `world` times as large.
  std::size_t rank = 0, world = 1;
  // As the Python original: the same order each epoch, packing that splits documents, runs on across them and pads with
  // id 0, and no reset between documents; pairs padded to the longest, with labels that are *not* shifted.
  bool compat = false;
  TokenId compat_separator = 0;  // between packed documents
};

class Batches {
 public:
  // Positions of a row: max_seq_len, or twice that for pairs.
  static std::size_t row_capacity(std::size_t max_seq_len, bool pairs) { return pairs ? 2 * max_seq_len : max_seq_len; }
  // What create() takes from the ledger (account::kTrainingData).
  static Bytes bytes(std::size_t examples, std::size_t max_seq_len, bool pairs, const BatchOptions& options);
  // kInvalidArgument for options that do not go together. `source` must outlive the batches.
  static Result<Batches> create(const ExampleSource& source, const BatchOptions& options, Ledger& ledger);

  // The next batch of this rank; without rows when a single pass is over (with several ranks, possibly one step before
  // others are: see finished()). An error leaves the position where it was.
  Result<Batch> next();
  // A single pass is over, on all ranks.
  bool finished() const;

  // Before the next batch. Restored on a stream with the same source and options, what follows is the same, to the bit.
  DataPosition position() const { return position_; }
  // kInvalidArgument for a position that no stream over this source can have.
  Status restore(DataPosition position);

 private:
  struct Buffers {
    Buffers(Carver carver, std::size_t examples, std::size_t rows, std::size_t capacity);
    std::span<std::uint32_t> order;  // [examples]
    RowBuffers rows;
    Bytes bytes;
  };
  Batches(const ExampleSource& source, const BatchOptions& options, Arena arena, Buffers buffers);

  bool over(DataPosition at) const { return !options_.repeat && at.epoch > 0; }
  DataPosition after(DataPosition at) const;
  void load_order(std::uint64_t epoch);
  std::size_t example_at(DataPosition at);
  bool mine(std::size_t item) const { return item / options_.batch_size == options_.rank; }
  Status place(DataPosition at);
  Result<DataPosition> fill_examples(DataPosition at);
  Result<DataPosition> fill_packed(DataPosition at);
  Result<DataPosition> fill_compat_rows(DataPosition at);
  Result<DataPosition> fill_compat_pairs(DataPosition at);
  Status replay(DataPosition at);

  const ExampleSource* source_;
  BatchOptions options_;
  Arena arena_;
  Buffers buffers_;
  DataPosition position_;
  std::uint64_t order_epoch_;  // whose order the buffer holds
  Example example_;
  CompatPacker packer_;
  CompatPacker::Packed packed_;
  DataPosition packer_at_;
};

}  // namespace axon::train
