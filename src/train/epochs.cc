#include "train/epochs.h"

#include <algorithm>

#include "train/data_batches.h"

namespace axon::train {
namespace {

// Rows that the examples of an epoch fill when they are packed in the file's order: about as many as in any other.
std::uint64_t packed_rows(const ExampleSource& data, std::size_t capacity) {
  std::uint64_t rows = 0;
  std::size_t room = 0;
  for (std::size_t i = 0; i < data.size(); ++i) {
    const std::size_t positions = data.shape(i).positions();
    if (positions > room) {
      ++rows;
      room = capacity;
    }
    room -= std::min(room, positions);
  }
  return rows;
}

// Rows of the original's packing: one stream of tokens, with a separator before a document that does not begin a row.
std::uint64_t compat_rows(const ExampleSource& data) {
  std::uint64_t rows = 0, held = 0;
  for (std::size_t i = 0; i < data.size(); ++i) {
    held += data.shape(i).tokens[0] + (held == 0 ? 0u : 1u);
    rows += held / data.max_seq_len();
    held %= data.max_seq_len();
  }
  return rows + (held == 0 ? 0 : 1);
}

}  // namespace

double steps_of_epoch(const ExampleSource& data, const TrainSettings& s, std::size_t processes) {
  const std::uint64_t batch = s.batch_size * processes;
  if (s.compat) {
    return static_cast<double>(data.pairs() ? (data.size() + batch - 1) / batch : compat_rows(data) / batch);
  }
  const std::size_t capacity = Batches::row_capacity(s.max_seq_len, data.pairs());
  const std::uint64_t items = s.pack ? packed_rows(data, capacity) : data.size();
  return static_cast<double>(items) / static_cast<double>(batch);
}

}  // namespace axon::train
