#include "train/data_batches.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "train/data_order.h"

namespace axon::train {
namespace {

constexpr std::uint64_t kNoEpoch = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t kMaxEpoch = std::uint64_t{1} << 48;

Status check(const ExampleSource& source, const BatchOptions& options) {
  const auto expected = [](std::string_view name, std::string_view wanted, auto came) {
    return make_error(ErrorCode::kInvalidArgument, "{}: expected {}, came {}", name, wanted, came);
  };
  constexpr std::size_t kMost = std::numeric_limits<std::int32_t>::max();
  if (options.batch_size == 0 || options.batch_size > kMost) {
    return expected("batch size", fmt::format("from 1 to {}", kMost), options.batch_size);
  }
  if (options.world == 0 || options.world > kMost) {
    return expected("number of ranks", fmt::format("from 1 to {}", kMost), options.world);
  }
  if (options.rank >= options.world) {
    return expected("rank", fmt::format("less than {}", options.world), options.rank);
  }
  if (source.size() > kMost) return expected("examples", fmt::format("at most {}", kMost), source.size());
  if (!options.compat) return Ok{};
  if (options.world != 1) return expected("number of ranks", "1 with the original's batches", options.world);
  if (options.pack) return expected("packing", "none beside the original's own", "the option");
  if (!source.pairs() && options.seed > std::numeric_limits<std::uint32_t>::max()) {
    return expected("seed", "less than 2^32 for numpy's shuffle", options.seed);
  }
  return Ok{};
}

}  // namespace

Batches::Buffers::Buffers(Carver carver, std::size_t examples, std::size_t row_count, std::size_t capacity)
    : order(carver.span<std::uint32_t>(examples)), rows(carver, row_count, capacity), bytes(carver.peak()) {}

Batches::Batches(const ExampleSource& source, const BatchOptions& options, Arena arena, Buffers buffers)
    : source_(&source),
      options_(options),
      arena_(std::move(arena)),
      buffers_(buffers),
      order_epoch_(kNoEpoch),
      packer_(options.compat_separator) {}

Bytes Batches::bytes(std::size_t examples, std::size_t max_seq_len, bool pairs, const BatchOptions& options) {
  return Buffers(Carver(), examples, options.batch_size, row_capacity(max_seq_len, pairs)).bytes;
}

Result<Batches> Batches::create(const ExampleSource& source, const BatchOptions& options, Ledger& ledger) {
  AXON_TRY(check(source, options));
  const std::size_t capacity = row_capacity(source.max_seq_len(), source.pairs());
  const Bytes size = bytes(source.size(), source.max_seq_len(), source.pairs(), options);
  Arena arena = AXON_TRY(Arena::create(ledger, account::kTrainingData, size));
  const Buffers buffers(arena.carver(), source.size(), options.batch_size, capacity);
  return Batches(source, options, std::move(arena), buffers);
}

bool Batches::finished() const { return over(position_); }

DataPosition Batches::after(DataPosition at) const {
  ++at.index;
  return at.index < source_->size() ? at : DataPosition{at.epoch + 1, 0};
}

void Batches::load_order(std::uint64_t epoch) {
  // The original's orders are the same in every epoch.
  const std::uint64_t wanted = options_.compat || !options_.shuffle ? 0 : epoch;
  if (order_epoch_ == wanted) return;
  order_epoch_ = wanted;
  if (!options_.shuffle)
    std::iota(buffers_.order.begin(), buffers_.order.end(), std::uint32_t{0});
  else if (!options_.compat)
    shuffled_order(options_.seed, epoch, buffers_.order);
  else if (source_->pairs())
    python_order(options_.seed, buffers_.order);
  else
    numpy_order(static_cast<std::uint32_t>(options_.seed), buffers_.order);
}

std::size_t Batches::example_at(DataPosition at) {
  load_order(at.epoch);
  return buffers_.order[at.index];
}

Result<Batch> Batches::next() {
  buffers_.rows.clear();
  if (!over(position_)) {
    if (options_.compat && source_->pairs())
      position_ = AXON_TRY(fill_compat_pairs(position_));
    else if (options_.compat)
      position_ = AXON_TRY(fill_compat_rows(position_));
    else if (options_.pack)
      position_ = AXON_TRY(fill_packed(position_));
    else
      position_ = AXON_TRY(fill_examples(position_));
  }
  return buffers_.rows.batch();
}

Status Batches::place(DataPosition at) {
  const std::size_t index = example_at(at);
  AXON_TRY(source_->read(index, example_));
  buffers_.rows.example(example_, source_->shape(index).line);
  return Ok{};
}

// Short examples that follow each other share a row.
Result<DataPosition> Batches::fill_examples(DataPosition at) {
  for (std::size_t item = 0; item < options_.batch_size * options_.world && !over(at); ++item, at = after(at)) {
    if (!mine(item)) continue;
    if (buffers_.rows.room() < source_->shape(example_at(at)).positions()) buffers_.rows.open_row();
    AXON_TRY(place(at));
  }
  return at;
}

// The rows of other ranks are walked over by their lengths alone.
Result<DataPosition> Batches::fill_packed(DataPosition at) {
  const std::size_t capacity = row_capacity(source_->max_seq_len(), source_->pairs());
  for (std::size_t row = 0; row < options_.batch_size * options_.world && !over(at); ++row) {
    if (mine(row)) buffers_.rows.open_row();
    std::size_t room = capacity;
    for (; !over(at); at = after(at)) {
      const std::size_t positions = source_->shape(example_at(at)).positions();
      if (positions > room) break;
      room -= positions;
      if (mine(row)) AXON_TRY(place(at));
    }
  }
  return at;
}

// Brings the packer to where `at` stands.
Status Batches::replay(DataPosition at) {
  if (packer_at_ == at) return Ok{};
  packer_at_ = {kNoEpoch, 0};  // until it is there
  packer_.restart();
  load_order(at.epoch);
  while (packer_.rows() < at.index) {
    if (!AXON_TRY(packer_.next(*source_, buffers_.order, packed_))) {
      return make_error(ErrorCode::kInvalidArgument, "data position: an epoch has fewer than {} packed rows", at.index);
    }
  }
  packer_at_ = at;
  return Ok{};
}

// An epoch's rows that do not fill a batch are dropped, or in a single pass filled up with rows of nothing.
Result<DataPosition> Batches::fill_compat_rows(DataPosition at) {
  AXON_TRY(replay(at));
  packer_at_ = {kNoEpoch, 0};  // should a read fail on the way
  load_order(at.epoch);
  RowBuffers& rows = buffers_.rows;
  const std::uint64_t first_epoch = at.epoch;
  while (rows.rows() < options_.batch_size) {
    const bool more = AXON_TRY(packer_.next(*source_, buffers_.order, packed_));
    if (!more) {
      at = {at.epoch + 1, 0};
      if (over(at)) break;
      if (at.epoch > first_epoch + 1) {
        return make_error(ErrorCode::kInvalidArgument,
                          "batch size: expected at most the packed rows of an epoch, came {}", options_.batch_size);
      }
      rows.clear();
      continue;
    }
    ++at.index;
    rows.open_row();
    const auto place = rows.segment(packed_.ids.size() - 1, SegmentRole::kDocument, packed_.lines.front());
    for (std::size_t t = 0; t < place.ids.size(); ++t) {
      place.ids[t] = packed_.ids[t];
      if (packed_.trained[t + 1] != 0) place.labels[t] = packed_.ids[t + 1];
    }
    for (const std::uint32_t line : packed_.lines) rows.line(line);
    for (std::uint64_t i = 0; i < packed_.started; ++i) rows.count_example();
  }
  while (rows.rows() != 0 && rows.rows() < options_.batch_size) {
    rows.open_row();
    rows.segment(source_->max_seq_len() - 1, SegmentRole::kDocument, 0);
  }
  packer_at_ = at;
  return at;
}

// The last batch of an epoch may be smaller. Labels stand at their own token, not at the one before.
Result<DataPosition> Batches::fill_compat_pairs(DataPosition at) {
  const std::uint64_t epoch = at.epoch;
  const auto count = std::min<std::uint64_t>(options_.batch_size, source_->size() - at.index);
  std::size_t width = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    const ExampleShape shape = source_->shape(example_at({epoch, at.index + i}));
    width = std::max<std::size_t>({width, shape.tokens[0], shape.tokens[1]});
  }
  for (std::uint64_t i = 0; i < count; ++i, at = after(at)) {
    const std::size_t index = example_at(at);
    AXON_TRY(source_->read(index, example_));
    const std::uint32_t line = source_->shape(index).line;
    buffers_.rows.open_row();
    for (std::size_t s = 0; s < 2; ++s) {
      const TokenSequence& sequence = example_.sequences[s];
      const auto place = buffers_.rows.segment(width, s == 0 ? SegmentRole::kChosen : SegmentRole::kRejected, line);
      for (std::size_t t = 0; t < sequence.ids.size(); ++t) {
        place.ids[t] = sequence.ids[t];
        if (sequence.trained[t] != 0) place.labels[t] = sequence.ids[t];
      }
    }
    buffers_.rows.line(line);
    buffers_.rows.count_example();
  }
  return at;
}

Status Batches::restore(DataPosition position) {
  const bool rows = options_.compat && !source_->pairs();
  if (position.epoch > kMaxEpoch) {
    return make_error(ErrorCode::kInvalidArgument, "data position: expected an epoch up to {}, came {}", kMaxEpoch,
                      position.epoch);
  }
  if (!rows && position.index >= source_->size()) {
    return make_error(ErrorCode::kInvalidArgument, "data position: expected an index below {}, came {}",
                      source_->size(), position.index);
  }
  if (over(position) && position != DataPosition{1, 0}) {
    return make_error(ErrorCode::kInvalidArgument, "data position: expected epoch 0 of a single pass, came {}",
                      position.epoch);
  }
  if (rows && !over(position)) AXON_TRY(replay(position));
  position_ = position;
  return Ok{};
}

}  // namespace axon::train
